"use strict";
// The reader's page: shows trials, takes answers, keeps them (in this browser, or on the server that gave the page).
const study = JSON.parse(document.getElementById("study").textContent);
const $ = (id) => document.getElementById(id);
const kept = `reader-study ${study.study} ${study.save || ""}`;
const fresh = (reader) => ({ reader, answers: [], started: null, begun: [], spent: {}, window: null });
const state = fresh(study.reader || "");
const view = { slice: 0, lower: 0, upper: 255, zoom: 1, x: 0, y: 0, cross: null, mark: null };
let trial = null, images = [], since = null, phase = "intro";

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const grey = (intensity) => (255 * (intensity - study.lower)) / (study.upper - study.lower);
const intensity = (value) => study.lower + (value / 255) * (study.upper - study.lower);
const number = (value) => String(Math.round(value)).replace("-", "−");
const blockOf = (each) => study.blocks.find((block) => block.task === each.task);
const answered = (id) => state.answers.some((answer) => answer.trial === id);
const following = () => study.trials.find((each) => !answered(each.id));

// --- keeping ---------------------------------------------------------------------------------------------------------
// Each reader of this browser has a place of their own; `kept` alone says who reads now.
function keep() {
  try { localStorage.setItem(kept, state.reader); localStorage.setItem(`${kept} ${state.reader}`, JSON.stringify(state)); }
  catch (error) { $("problem").textContent = "This browser keeps nothing (" + error.name + "): do not close the page before you have saved."; }
}

function stored(name) { try { return localStorage.getItem(name); } catch { return null; } }
function take(reader) { Object.assign(state, fresh(reader), JSON.parse(stored(`${kept} ${reader}`) || "{}")); }
function another() {
  if (!study.reader) { try { localStorage.removeItem(kept); } catch { /* nothing is kept */ } }
  location.reload();
}

async function recall() {
  take(study.reader || stored(kept) || "");
  if (!study.save) return;
  const response = await fetch(study.save, { headers: { Accept: "application/json" } });
  if (!response.ok) throw new Error("the server answered " + response.status);
  state.answers = await response.json();
  state.reader = study.reader;
}

async function store(answer) {
  if (study.save) {
    const response = await fetch(study.save, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(answer),
    });
    if (!response.ok) throw new Error("the server answered " + response.status);
  }
  state.answers.push(answer);
  keep();
}

function seconds() { return since === null ? 0 : (performance.now() - since) / 1000; }
function stopClock() {
  if (since === null || !trial) return;
  state.spent[trial.id] = (state.spent[trial.id] || 0) + seconds();
  since = null;
  keep();
}
function startClock() { if (phase === "trial" && !document.hidden && since === null) since = performance.now(); }

// --- images ----------------------------------------------------------------------------------------------------------
async function decoded(id) {
  const text = atob(study.blobs[id]), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height), pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(bitmap, 0, 0);
  const rgba = pen.getImageData(0, 0, bitmap.width, bitmap.height).data, pixels = new Uint8Array(rgba.length / 4);
  for (let i = 0; i < pixels.length; i++) pixels[i] = rgba[4 * i];
  return pixels;
}

function draw() {
  const { rows, columns, slices } = study, table = new Uint8ClampedArray(256);
  for (let i = 0; i < 256; i++) table[i] = (255 * (i - view.lower)) / Math.max(view.upper - view.lower, 1e-6);
  for (const image of images) {
    const canvas = image.canvas, ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.round((width * rows) / columns);
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const slice = new ImageData(columns, rows), start = view.slice * rows * columns;
    for (let i = 0; i < rows * columns; i++) {
      const shade = table[image.pixels[start + i]];
      slice.data[4 * i] = slice.data[4 * i + 1] = slice.data[4 * i + 2] = shade;
      slice.data[4 * i + 3] = 255;
    }
    const plate = new OffscreenCanvas(columns, rows);
    plate.getContext("2d").putImageData(slice, 0, 0);
    const pen = canvas.getContext("2d"), scale = (width / columns) * view.zoom;
    pen.fillStyle = "#000"; pen.fillRect(0, 0, width, height);
    pen.imageSmoothingEnabled = true; pen.imageSmoothingQuality = "high";
    const left = width / 2 - (columns / 2 + view.x) * scale, top = height / 2 - (rows / 2 + view.y) * scale;
    pen.drawImage(plate, left, top, columns * scale, rows * scale);
    image.place = { left, top, scale, ratio };
    label(pen, width, height, scale, ratio);
    if (trial.task === "find") marks(pen, image);
    canvas.setAttribute("aria-label", `${image.name}, slice ${view.slice + 1} of ${slices}`);
  }
  $("slice").value = view.slice;
  $("slice").setAttribute("aria-valuetext", `${view.slice + 1} of ${slices}`);
  $("sliceText").textContent = `${view.slice + 1} / ${slices}`;
  $("window").textContent = `${number(intensity(view.lower))} … ${number(intensity(view.upper))} ${study.unit}`;
  const shown = study.windows.findIndex((each) => Math.abs(grey(each.lower) - view.lower) < 0.01 && Math.abs(grey(each.upper) - view.upper) < 0.01);
  $("preset").value = shown < 0 ? "own" : String(shown);
}

function label(pen, width, height, scale, ratio) {
  const size = Math.round(14 * ratio), pad = 5 * ratio, [left, right, top, bottom] = study.sides;
  pen.font = `600 ${size}px system-ui, sans-serif`; pen.fillStyle = "#fff"; pen.strokeStyle = "#000"; pen.lineWidth = 3 * ratio;
  const write = (text, x, y, align, base) => { pen.textAlign = align; pen.textBaseline = base; pen.strokeText(text, x, y); pen.fillText(text, x, y); };
  write(left, pad, height / 2, "left", "middle"); write(right, width - pad, height / 2, "right", "middle");
  write(top, width / 2, pad, "center", "top"); write(bottom, width / 2, height - pad, "center", "bottom");
  const mm = scale / study.pixel_mm, bar = [200, 100, 50, 20, 10, 5].find((each) => each * mm < 0.3 * width) || 2;
  pen.fillStyle = "#000"; pen.fillRect(2 * pad - ratio, height - 2 * pad - ratio, bar * mm + 2 * ratio, 5 * ratio);
  pen.fillStyle = "#fff"; pen.fillRect(2 * pad, height - 2 * pad, bar * mm, 3 * ratio);
  write(bar < 10 ? `${bar} mm` : `${bar / 10} cm`, 2 * pad, height - 3 * pad, "left", "bottom");
}

function marks(pen, image) {
  const { left, top, scale, ratio } = image.place, at = (column, row) => [left + (column + 0.5) * scale, top + (row + 0.5) * scale];
  const cross = (place, colour, size) => {
    const [x, y] = at(place.column, place.row);
    for (const [shade, width] of [["#000", 4], [colour, 2]]) {
      pen.strokeStyle = shade; pen.lineWidth = width * ratio; pen.beginPath();
      pen.moveTo(x - size, y); pen.lineTo(x + size, y); pen.moveTo(x, y - size); pen.lineTo(x, y + size); pen.stroke();
    }
  };
  if (view.cross && document.activeElement === image.canvas) cross(view.cross, "#9fd3ff", 7 * ratio);
  if (view.mark && view.mark.slice === view.slice) cross(view.mark, "#ffd23f", 11 * ratio);
  if (phase !== "feedback") return;
  for (const lesion of trial.practice.lesions.filter((each) => each.first <= view.slice && view.slice <= each.last)) {
    const [x, y] = at(lesion.column, lesion.row);
    pen.strokeStyle = "#4ade80"; pen.lineWidth = 2 * ratio; pen.beginPath(); pen.arc(x, y, lesion.radius * scale, 0, 7); pen.stroke();
  }
}

function lookAt(change) {
  Object.assign(view, change);
  view.slice = clamp(Math.round(view.slice), 0, study.slices - 1);
  view.zoom = clamp(view.zoom, 1, 8);
  const [x, y] = [study.columns, study.rows].map((size) => (size / 2) * (1 - 1 / view.zoom));
  view.x = clamp(view.x, -x, x); view.y = clamp(view.y, -y, y);
  if (view.upper - view.lower < 4) { const middle = (view.upper + view.lower) / 2; view.lower = middle - 2; view.upper = middle + 2; }
  state.window = [view.lower, view.upper];
  if (images.length) draw();
}
const slide = (steps) => { const by = steps; view.lower += by; view.upper += by; lookAt({}); };
const widen = (factor) => { const middle = (view.lower + view.upper) / 2, half = ((view.upper - view.lower) / 2) * factor; lookAt({ lower: middle - half, upper: middle + half }); };
const first = () => ({ lower: grey(study.windows[0].lower), upper: grey(study.windows[0].upper), zoom: 1, x: 0, y: 0 });

function wire(canvas, image) {
  let from = null;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) lookAt({ zoom: view.zoom * (event.deltaY < 0 ? 1.15 : 1 / 1.15) });
    else lookAt({ slice: view.slice - Math.sign(event.deltaY) });
  }, { passive: false });
  canvas.addEventListener("mousedown", (event) => event.preventDefault());  // no focus by mouse: Enter shall go on
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "touch") canvas.setPointerCapture(event.pointerId);
    from = { x: event.clientX, y: event.clientY, moved: false, pan: event.shiftKey || event.button > 0 };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!from || event.pointerType === "touch") return;
    const dx = event.clientX - from.x, dy = event.clientY - from.y;
    if (!from.moved && Math.hypot(dx, dy) < 4) return;
    Object.assign(from, { x: event.clientX, y: event.clientY, moved: true });
    if (from.pan) { const scale = image.place.scale / image.place.ratio; lookAt({ x: view.x - dx / scale, y: view.y - dy / scale }); }
    else { view.lower -= dx / 2; view.upper += dx / 2; slide(-dy / 2); }
  });
  canvas.addEventListener("pointerup", (event) => {
    const clicked = from && !from.moved && !from.pan;
    from = null;
    if (!clicked || trial.task !== "find" || phase !== "trial") return;
    const box = canvas.getBoundingClientRect(), { left, top, scale, ratio } = image.place;
    mark((event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio, left, top, scale);
  });
  canvas.addEventListener("pointercancel", () => { from = null; });
  canvas.addEventListener("focus", () => { if (trial.task === "find") { view.cross ||= { row: Math.round(study.rows / 2), column: Math.round(study.columns / 2) }; draw(); } });
  canvas.addEventListener("blur", () => { if (images.length) draw(); });
}

function mark(x, y, left, top, scale) {
  setMark({ column: (x - left) / scale - 0.5, row: (y - top) / scale - 0.5 });
}
function setMark(place) {
  if (place.row < -0.5 || place.column < -0.5 || place.row > study.rows - 0.5 || place.column > study.columns - 0.5) return;
  view.mark = { slice: view.slice, row: Math.round(place.row * 10) / 10, column: Math.round(place.column * 10) / 10 };
  pick("choices", "present");
  draw();
}

// --- answering -------------------------------------------------------------------------------------------------------
function radios(box, name, options) {
  box.querySelectorAll("label").forEach((each) => each.remove());
  for (const { value, label: text } of options) {
    const wrap = document.createElement("label"), input = document.createElement("input"), shown = document.createElement("span");
    wrap.className = "pick"; input.type = "radio"; input.name = name; input.value = value; shown.textContent = text;
    input.addEventListener("change", ready);
    wrap.append(input, shown); box.append(wrap);
  }
}
const chosen = (id) => $(id).querySelector("input:checked")?.value ?? null;
function pick(id, value) {
  const input = [...$(id).querySelectorAll("input")].find((each) => each.value === value);
  if (input && !input.disabled) { input.checked = true; ready(); }
}
function ready() {
  if (phase !== "trial") return;
  const choice = chosen("choices");
  if (choice === "absent" && view.mark) { view.mark = null; draw(); }
  const missing = choice === "present" && !view.mark;
  $("feedback").textContent = missing ? "Mark the lesion in the image." : "";
  $("next").disabled = !choice || !chosen("sure") || missing;
}

function show(section) {
  for (const id of ["intro", "trial", "paused", "done"]) $(id).hidden = id !== section;
  $("pause").hidden = section !== "trial";
  $("title").textContent = state.reader && section !== "intro" ? `Reader study: ${state.reader}` : "Reader study";
  $("other").hidden = Boolean(study.reader);
  const finished = study.trials.filter((each) => answered(each.id)).length;
  $("progress").max = study.trials.length; $("progress").value = finished;
  $("count").textContent = `${Math.min(finished + (section === "trial" ? 1 : 0), study.trials.length)} of ${study.trials.length}`;
}

async function go() {
  $("problem").textContent = "";
  trial = following();
  if (!trial) return finish();
  const block = blockOf(trial);
  if (!state.begun.includes(block.task)) return introduce(block);
  phase = "loading";
  const ids = trial.source ? [trial.source, ...trial.stacks] : trial.stacks;
  const pixels = await Promise.all(ids.map(decoded));
  const names = trial.stacks.length > 1 ? [...(trial.source ? ["Source"] : []), "Image 1", "Image 2"] : [""];
  $("views").replaceChildren();
  images = [];
  show("trial");
  pixels.forEach((each, place) => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption"), canvas = document.createElement("canvas");
    caption.textContent = names[place]; canvas.tabIndex = 0; canvas.setAttribute("role", "img");
    figure.append(...(names[place] ? [caption] : []), canvas); $("views").append(figure);
    const image = { canvas, pixels: each, name: names[place] || "Image", place: null };
    images.push(image);
    wire(canvas, image);
  });
  $("question").textContent = block.question;
  radios($("choices"), "choice", block.choices);
  radios($("sure"), "confidence", [1, 2, 3, 4, 5].map((value) => ({ value: String(value), label: String(value) })));
  $("why").value = ""; $("feedback").textContent = ""; $("next").textContent = "Next";
  Object.assign(view, { slice: Math.floor(study.slices / 2), zoom: 1, x: 0, y: 0, cross: null, mark: null });
  phase = "trial";
  $("question").focus({ preventScroll: true });  // away from sliders and buttons, which have keys of their own
  fit();
  ready();
  startClock();
}

function fit() {
  if (!images.length) return;
  const across = window.innerWidth >= 640 ? images.length : 1, high = across > 1 || images.length === 1 ? 0.62 : 0.42;
  const room = ($("views").clientWidth || window.innerWidth) / across - 4;
  const width = Math.max(120, Math.min(room, (high * window.innerHeight * study.columns) / study.rows));
  $("views").style.gridTemplateColumns = `repeat(${across}, ${Math.floor(width)}px)`;
  draw();
}

async function next() {
  if ($("next").disabled || (phase !== "trial" && phase !== "feedback")) return;
  if (phase === "feedback") return go();
  stopClock();
  phase = "storing"; $("next").disabled = true;
  const answer = {
    trial: trial.id, choice: chosen("choices"), confidence: Number(chosen("sure")), mark: view.mark,
    why: $("why").value.trim(), seconds: Math.round(10 * (state.spent[trial.id] || 0)) / 10, at: new Date().toISOString(),
  };
  try { await store(answer); }
  catch (error) {
    $("problem").textContent = `Not kept (${error.message}). Is the server there? Your answer is still on this page: press Next again.`;
    phase = "trial"; $("next").disabled = false; startClock();
    return;
  }
  $("problem").textContent = "";
  if (!trial.practice) return go();
  phase = "feedback";
  const right = blockOf(trial).choices[trial.practice.right], hit = answer.choice === right.value;
  const told = { "2afc": `${right.label} is the real scan`, single: `it is ${right.value}`, present: "there is a lesion, in the circle", absent: "there is no lesion" };
  $("feedback").textContent = `${hit ? "Right" : "Not so"}: ${told[right.value] || told[trial.task]}.`;
  $("next").textContent = "Go on"; $("next").disabled = false;
  draw();
}

// --- around the trials -----------------------------------------------------------------------------------------------
function introduce(block) {
  phase = "intro";
  const later = state.begun.length > 0;
  $("introTitle").textContent = later ? "Second part" : "Reader study";
  $("introText").replaceChildren(...block.intro.map((text) => { const p = document.createElement("p"); p.textContent = text; return p; }));
  $("introText").hidden = later && study.noticed && !answered(study.noticed);
  $("noticedRow").hidden = !$("introText").hidden;
  $("whoRow").hidden = later || Boolean(study.reader);
  $("who").value = state.reader;
  $("start").textContent = $("introText").hidden ? "Go on" : "Start";
  show("intro");
}

async function start() {
  const block = blockOf(following());
  if (!$("noticedRow").hidden) {
    try { await store({ trial: study.noticed, choice: "", confidence: 1, mark: null, why: $("noticed").value.trim(), seconds: 0, at: new Date().toISOString() }); }
    catch (error) { $("problem").textContent = `Not kept (${error.message}). Press the button again.`; return; }
    return introduce(block);
  }
  if (!study.reader) {
    const reader = $("who").value.trim();
    if (!reader) { $("problem").textContent = "Please give your name or a code."; $("who").focus(); return; }
    if (reader !== state.reader) take(reader);  // who has begun in this browser goes on
    keep();
    if (state.begun.includes(block.task)) return go();
  }
  state.started ||= new Date().toISOString();
  state.begun.push(block.task);
  keep();
  go();
}

function pause() { if (phase !== "trial") return; stopClock(); phase = "paused"; show("paused"); $("go").focus(); }
function goOn() { phase = "trial"; show("trial"); fit(); startClock(); }
function finish() {
  phase = "done"; images = [];
  show("done");
  $("doneText").textContent = study.save ? "All answers are on the server. You may close this page." : "Save the answers, and send the file to whoever gave you this page.";
  $("save").textContent = study.save ? "Save a copy as a file" : "Save the answers as a file";
}
function save() {
  const content = { format: "medgan reader study answers 1", study: study.study, reader: state.reader, started: state.started, answers: state.answers };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }));
  link.download = `answers-${state.reader.replace(/[^\w-]+/g, "_")}-${study.study.slice(0, 8)}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function key(event) {
  if (event.target.matches("#who") && event.key === "Enter") return start();
  if (event.target.matches("textarea, #who, select") || event.altKey || event.metaKey || event.ctrlKey) return;
  if (event.target.matches("input[type=range]") && event.key.startsWith("Arrow")) return;
  const name = event.key, on = document.activeElement, step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[name];
  const act = (action) => { event.preventDefault(); action(); };
  if (name === "Enter" && on && on.matches("button")) return;
  if (phase === "intro" || phase === "done" || phase === "paused") return;
  if (name.toLowerCase() === "p") return act(pause);
  if (step && event.shiftKey) return act(() => lookAt({ x: view.x + step[1] * 8, y: view.y + step[0] * 8 }));
  if (trial.task === "find" && on && on.matches("canvas") && phase === "trial") {
    if (step) return act(() => { view.cross = { row: clamp(view.cross.row + step[0] * 2, 0, study.rows - 1), column: clamp(view.cross.column + step[1] * 2, 0, study.columns - 1) }; draw(); });
    const marked = view.mark && view.mark.slice === view.slice && view.mark.row === view.cross.row && view.mark.column === view.cross.column;
    if (name === "Enter" && !marked) return act(() => setMark(view.cross));
  }
  const slices = { ArrowUp: 1, PageUp: 1, ArrowDown: -1, PageDown: -1 }[name];
  if (slices) return act(() => lookAt({ slice: view.slice + slices }));
  const options = [...$("choices").querySelectorAll("input")];
  if (name === "ArrowLeft" || name === "ArrowRight") return act(() => phase === "trial" && pick("choices", options[name === "ArrowLeft" ? 0 : 1].value));
  if ("12345".includes(name) && phase === "trial") return act(() => pick("sure", name));
  const acts = { "+": () => lookAt({ zoom: view.zoom * 1.25 }), "=": () => lookAt({ zoom: view.zoom * 1.25 }), "-": () => lookAt({ zoom: view.zoom / 1.25 }), 0: () => lookAt(first()), w: () => widen(1.15), s: () => widen(1 / 1.15), e: () => slide(6), d: () => slide(-6), Enter: next };
  if (acts[name]) act(acts[name]);
}

study.windows.forEach((each, place) => $("preset").add(new Option(`${each.name} ${number(each.lower)} … ${number(each.upper)} ${study.unit}`, String(place))));
$("preset").add(new Option("own", "own"));
$("preset").addEventListener("change", () => { const each = study.windows[Number($("preset").value)]; if (each) lookAt({ lower: grey(each.lower), upper: grey(each.upper) }); });
$("slice").max = study.slices - 1;
$("slice").addEventListener("input", () => lookAt({ slice: Number($("slice").value) }));
$("in").addEventListener("click", () => lookAt({ zoom: view.zoom * 1.25 }));
$("out").addEventListener("click", () => lookAt({ zoom: view.zoom / 1.25 }));
$("reset").addEventListener("click", () => lookAt(first()));
// Whoever works by mouse and keys at once would press a button again by Enter, or move a slider by arrows.
const toTrial = () => $("question").focus({ preventScroll: true });
for (const id of ["in", "out", "reset", "keys"]) $(id).addEventListener("mousedown", (event) => event.preventDefault());
$("slice").addEventListener("pointerup", toTrial);
$("preset").addEventListener("change", toTrial);
$("next").addEventListener("click", next);
$("start").addEventListener("click", start);
$("pause").addEventListener("click", pause);
$("go").addEventListener("click", goOn);
$("save").addEventListener("click", save);
$("other").addEventListener("click", another);
$("otherPaused").addEventListener("click", another);
$("otherPaused").hidden = Boolean(study.reader);
$("keys").addEventListener("click", () => { $("help").hidden = !$("help").hidden; $("keys").setAttribute("aria-expanded", String(!$("help").hidden)); });
document.addEventListener("keydown", key);
document.addEventListener("visibilitychange", () => { if (document.hidden) stopClock(); else startClock(); });
window.addEventListener("pagehide", stopClock);
window.addEventListener("resize", fit);
recall().then(() => { lookAt(state.window ? { lower: state.window[0], upper: state.window[1] } : first()); return go(); })
  .catch((error) => { $("problem").textContent = `The study cannot be shown (${error.message}). Load the page again.`; });
