// The slice viewer of medgan's pages: linked planes, windows, swipe, difference, outlines. No network, no library.
// For tests and scripts, window.medganViewer has:
//   ready              a promise, fulfilled when the first case is shown
//   open(number)       show a case, counted from 1; a promise
//   goTo([x, y, z])    put the cross at mm (RAS)
//   valueAt(name, mm)  value of "source", "synthetic", "truth", "change", "difference" or "mask NAME" in the nearest voxel
//   pixelOf(plane, mm) where a place lies on that plane's canvas, in CSS pixels: {x, y}
//   state              what is shown (read only)
"use strict";
(() => {
  // ---------- Data: a case, unpacked when it is selected ----------

  async function unpack(base64, bytes) {
    const text = atob(base64), packed = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const parts = new Uint8Array(await new Response(stream).arrayBuffer());
    if (bytes === 1) return parts;
    const count = parts.length / 2, voxels = new Int16Array(count); // low bytes first, then high bytes
    for (let i = 0; i < count; i++) voxels[i] = parts[i] | (parts[count + i] << 8);
    return voxels;
  }

  function inverse(m) { // of an affine (4 × 4), as rows
    const [[a, b, c, x], [d, e, f, y], [g, h, i, z]] = m;
    const A = e * i - f * h, B = c * h - b * i, C = b * f - c * e, det = a * A + d * B + g * C;
    const r = [[A, B, C], [f * g - d * i, a * i - c * g, c * d - a * f], [d * h - e * g, b * g - a * h, a * e - b * d]]
      .map((row) => row.map((value) => value / det));
    return r.map((row) => [...row, -(row[0] * x + row[1] * y + row[2] * z)]);
  }
  const applied = (m, p) => [0, 1, 2].map((r) => m[r][0] * p[0] + m[r][1] * p[1] + m[r][2] * p[2] + m[r][3]);
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  class Case {
    static async load(text) {
      const it = Object.assign(new Case(), JSON.parse(text));
      await Promise.all(it.layers.map(async (layer) => {
        layer.voxels = await unpack(layer.data, layer.labels ? 1 : 2);
        delete layer.data;
      }));
      it.volumes = it.layers.filter((layer) => !layer.labels);
      it.masks = it.layers.filter((layer) => layer.labels);
      it.toVoxel = it.affine && inverse(it.affine);
      it.difference = it.makeDifference();
      return it;
    }
    volume(name) { return name === "difference" ? this.difference : this.layers.find((layer) => layer.name === name); }
    get images() { return this.volumes.filter((each) => each.name !== "change"); }
    makeDifference() {
      const one = this.volume("synthetic");
      const other = this.volume("truth") || this.volume("source");
      if (!one || !other || one.group !== other.group) return null;
      return { name: "difference", title: `Synthetic − ${other.title.toLowerCase()}`, unit: one.unit, group: one.group, one, other };
    }
    index([i, j, k]) { return i + this.shape[0] * (j + this.shape[1] * k); }
    value(layer, voxel) {
      const at = this.index(voxel);
      if (layer.one) return layer.one.voxels[at] * layer.one.step - layer.other.voxels[at] * layer.other.step;
      return layer.voxels[at] * (layer.step || 1);
    }
    nearest(mm) { return applied(this.toVoxel, mm).map((value, axis) => clamp(Math.round(value), 0, this.shape[axis] - 1)); }
  }

  // ---------- Planes: columns and rows both run against the axes, so that right, front and head are left and up ----------

  const PLANES = {
    axial: { title: "Axial", u: 0, v: 1, w: 2, letters: ["R", "L", "A", "P"], towards: ["I", "S"] },
    coronal: { title: "Coronal", u: 0, v: 2, w: 1, letters: ["R", "L", "S", "I"], towards: ["P", "A"] },
    sagittal: { title: "Sagittal", u: 1, v: 2, w: 0, letters: ["A", "P", "S", "I"], towards: ["L", "R"] },
  };
  const GREYS = Array.from({ length: 256 }, (_, grey) => [grey, grey, grey]);
  let signedColours = []; // of signed images, from below 0 to above, with one for 0
  const OUTLINES = ["#00e5a0", "#ff4fd8", "#56b4e9", "#e69f00", "#f0e442", "#d55e00"]; // told apart by the colour-blind
  const MANY_LABELS = 6; // from more on, outlines are shown when they are asked for
  const isSigned = (layer) => layer.name === "change" || layer.name === "difference";

  function sliceImage(it, layer, plane, at, low, high) { // a canvas, one pixel a voxel
    const { u, v, w } = plane, strides = [1, it.shape[0], it.shape[0] * it.shape[1]];
    const width = it.shape[u], height = it.shape[v], image = new ImageData(width, height), pixels = new Uint32Array(image.data.buffer);
    const colours = isSigned(layer) ? signedColours : GREYS, last = colours.length - 1, scale = last / (high - low);
    const table = Uint32Array.from(colours, ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red);
    const one = layer.one || layer, other = layer.other;
    let out = 0;
    for (let row = height - 1; row >= 0; row--) {
      let index = at * strides[w] + row * strides[v] + (width - 1) * strides[u];
      for (let column = 0; column < width; column++, index -= strides[u]) {
        let value = one.voxels[index] * one.step;
        if (other) value -= other.voxels[index] * other.step;
        pixels[out++] = table[clamp(Math.round((value - low) * scale), 0, last)];
      }
    }
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    canvas.getContext("2d").putImageData(image, 0, 0);
    return canvas;
  }

  function outlinePaths(it, mask, plane, at) { // by label, in pixels of the slice
    const { u, v, w } = plane, strides = [1, it.shape[0], it.shape[0] * it.shape[1]];
    const width = it.shape[u], height = it.shape[v], paths = new Map();
    const label = (c, r) => c < 0 || r < 0 || c >= width || r >= height ? 0
      : mask.voxels[at * strides[w] + (height - 1 - r) * strides[v] + (width - 1 - c) * strides[u]];
    for (let r = 0; r < height; r++) for (let c = 0; c < width; c++) {
      const own = label(c, r);
      if (!own) continue;
      if (!paths.has(own)) paths.set(own, new Path2D());
      const path = paths.get(own), edge = (x1, y1, x2, y2) => { path.moveTo(x1, y1); path.lineTo(x2, y2); };
      if (label(c - 1, r) !== own) edge(c, r, c, r + 1);
      if (label(c + 1, r) !== own) edge(c + 1, r, c + 1, r + 1);
      if (label(c, r - 1) !== own) edge(c, r, c + 1, r);
      if (label(c, r + 1) !== own) edge(c, r + 1, c + 1, r + 1);
    }
    return paths;
  }

  // ---------- A pane: one plane of one or two volumes on a canvas ----------

  class Pane {
    constructor(viewer, name, layer, large) {
      Object.assign(this, { viewer, name, layer, plane: PLANES[name] });
      this.figure = document.createElement("figure");
      this.figure.className = large ? "mv-pane mv-large" : "mv-pane";
      this.canvas = Object.assign(document.createElement("canvas"), { tabIndex: 0 });
      this.canvas.setAttribute("role", "img");
      this.canvas.dataset.plane = name;
      this.slider = Object.assign(document.createElement("input"), { type: "range", min: 1, max: viewer.it.shape[this.plane.w], step: 1 });
      this.slider.setAttribute("aria-label", `${this.plane.title} slice`);
      this.slider.addEventListener("input", () => viewer.slice(this.plane, this.slider.value - 1));
      this.figure.append(this.canvas, this.slider);
      this.listen();
    }

    layout() { // where the image lies on the canvas, in CSS pixels
      const { it, state } = this.viewer, { u, v } = this.plane;
      const width = this.canvas.clientWidth, height = this.canvas.clientHeight;
      const wide = it.shape[u] * it.spacing[u], high = it.shape[v] * it.spacing[v];
      const scale = Math.min(width / wide, height / high) * state.zoom; // pixels a mm
      const w = wide * scale, h = high * scale;
      const cross = [w * (1 - (state.cross[u] + 0.5) / it.shape[u]), h * (1 - (state.cross[v] + 0.5) / it.shape[v])];
      const x = w <= width ? (width - w) / 2 : clamp(width / 2 - cross[0], width - w, 0);
      const y = h <= height ? (height - h) / 2 : clamp(height / 2 - cross[1], height - h, 0);
      return { x, y, w, h, scale, width, height, cross: [x + cross[0], y + cross[1]] };
    }

    voxelAt(x, y) { // the voxel of the shown slice under a place on the canvas
      const { it, state } = this.viewer, box = this.layout(), voxel = [...state.cross], { u, v } = this.plane;
      voxel[u] = clamp(Math.floor((1 - (x - box.x) / box.w) * it.shape[u]), 0, it.shape[u] - 1);
      voxel[v] = clamp(Math.floor((1 - (y - box.y) / box.h) * it.shape[v]), 0, it.shape[v] - 1);
      return voxel;
    }

    draw() {
      const { viewer, canvas, plane } = this, { it, state } = viewer, ratio = window.devicePixelRatio || 1;
      const box = this.layout(), at = state.cross[plane.w];
      canvas.width = Math.max(1, Math.round(box.width * ratio));
      canvas.height = Math.max(1, Math.round(box.height * ratio));
      const g = canvas.getContext("2d");
      g.scale(ratio, ratio);
      g.fillStyle = "#000";
      g.fillRect(0, 0, box.width, box.height);
      g.imageSmoothingEnabled = state.smooth;
      const paint = (layer) => g.drawImage(sliceImage(it, layer, plane, at, ...viewer.range(layer)), box.x, box.y, box.w, box.h);
      paint(this.layer);
      if (state.mode === "swipe" && viewer.other) {
        g.save();
        g.beginPath();
        g.rect(box.width * state.curtain, 0, box.width, box.height);
        g.clip();
        paint(viewer.other);
        g.restore();
      }
      if (state.masks) this.drawOutlines(g, box, at);
      this.drawCross(g, box);
      this.drawWords(g, box, at);
      this.slider.value = at + 1;
    }

    drawOutlines(g, box, at) {
      const { it } = this.viewer, { u, v } = this.plane;
      const fit = new DOMMatrix([box.w / it.shape[u], 0, 0, box.h / it.shape[v], box.x, box.y]);
      let colour = 0;
      for (const mask of it.masks) {
        for (const [label, path] of outlinePaths(it, mask, this.plane, at)) {
          if (this.viewer.unmarked.has(mask.labels[label - 1])) continue;
          const placed = new Path2D();
          placed.addPath(path, fit);
          g.lineWidth = 1.5;
          g.strokeStyle = OUTLINES[(colour + label - 1) % OUTLINES.length];
          g.stroke(placed);
        }
        colour += mask.labels.length;
      }
    }

    drawCross(g, box) {
      const [x, y] = box.cross, gap = 9;
      g.strokeStyle = isSigned(this.layer) ? "rgba(0, 0, 0, .6)" : "rgba(255, 214, 10, .75)";
      g.lineWidth = 1;
      g.beginPath();
      for (const [x1, y1, x2, y2] of [[box.x, y, x - gap, y], [x + gap, y, box.x + box.w, y], [x, box.y, x, y - gap], [x, y + gap, x, box.y + box.h]]) {
        if (x2 > x1 || y2 > y1) { g.moveTo(x1, y1); g.lineTo(x2, y2); }
      }
      g.stroke();
    }

    drawWords(g, box, at) {
      const { viewer, plane, layer } = this, { it, state } = viewer, { width, height } = box, small = width < 240;
      const write = (text, x, y, align, size = small ? 11 : 12, weight = 500) => {
        g.font = `${weight} ${size}px system-ui, sans-serif`;
        Object.assign(g, { textAlign: align, textBaseline: "middle", lineWidth: 3, strokeStyle: "#000", fillStyle: "#000a" });
        const long = g.measureText(text).width + 6, start = x + 3 - long * { left: 0, center: 0.5, right: 1 }[align];
        if (isSigned(layer)) g.fillRect(start - (align === "left" ? 6 : align === "center" ? 3 : 0), y - size * 0.7, long, size * 1.4);
        else g.strokeText(text, x, y);
        g.fillStyle = "#f2f2f2";
        g.fillText(text, x, y);
      };
      const swiped = state.mode === "swipe" && viewer.other;
      if (swiped) {
        const x = Math.round(width * state.curtain) + 0.5;
        g.fillStyle = "#ffd60a";
        g.fillRect(x - 1, 0, 2, height);
        g.beginPath();
        g.arc(x, height * 0.75, 8, 0, 7);
        g.fill();
      }
      const [left, right, top, bottom] = plane.letters.map((letter) => letter + (it.placed ? "" : "?")), large = small ? 13 : 16;
      write(left, 6, height / 2, "left", large, 700);
      write(right, width - 6, height / 2, "right", large, 700);
      write(top, width / 2, 12, "center", large, 700);
      write(bottom, width / 2, height - 12, "center", large, 700);
      const mm = viewer.mm()[plane.w], side = plane.towards[mm < 0 ? 0 : 1];
      write(`${plane.title} ${at + 1}/${it.shape[plane.w]}`, 6, 12, "left");
      write(`${side} ${Math.abs(mm).toFixed(1)} mm`, 6, small ? 26 : 28, "left");
      if (!small || state.mode === "side") write(swiped ? `${layer.title} | ${viewer.other.title}` : layer.title, width - 6, 12, "right");
      const [low, high] = viewer.range(layer);
      if (!isSigned(layer) && !small) write(`C ${Math.round((low + high) / 2)} W ${Math.round(high - low)}`, width - 6, 28, "right");
      this.drawScale(g, box, write);
      if (isSigned(layer)) this.drawColours(g, box, write);
      const what = swiped ? `${layer.title} and ${viewer.other.title}` : layer.title;
      this.canvas.setAttribute("aria-label", `${what}, ${plane.title.toLowerCase()} slice ${at + 1} of ${it.shape[plane.w]}, ${side} ${Math.abs(mm).toFixed(1)} mm`);
    }

    drawScale(g, box, write) { // a bar of a round length, about a fifth of the pane
      const mm = [200, 100, 50, 20, 10, 5, 2, 1].find((length) => length * box.scale <= box.width * 0.3) || 1;
      const x = 8, y = box.height - 10, length = mm * box.scale;
      for (const [colour, grow] of [["#000", 1], ["#f2f2f2", 0]]) { // with a rim that white does not swallow
        g.fillStyle = colour;
        for (const [left, top, w, h] of [[x, y, length, 2], [x, y - 4, 1, 8], [x + length - 1, y - 4, 1, 8]]) {
          g.fillRect(left - grow, top - grow, w + 2 * grow, h + 2 * grow);
        }
      }
      write(mm >= 10 ? `${mm / 10} cm` : `${mm} mm`, x, y - 12, "left", 11);
    }

    drawColours(g, box, write) { // the bar of a signed image
      const [low, high] = this.viewer.range(this.layer), width = 10, height = Math.min(140, box.height * 0.4);
      const x = box.width - 8 - width, y = box.height - 18 - height, bar = g.createLinearGradient(0, y + height, 0, y);
      signedColours.forEach((colour, i) => bar.addColorStop(i / (signedColours.length - 1), `rgb(${colour})`));
      g.fillStyle = bar;
      g.fillRect(x, y, width, height);
      g.strokeStyle = "#aaa";
      g.lineWidth = 1;
      g.strokeRect(x, y, width, height);
      const unit = this.layer.unit ? ` ${this.layer.unit}` : "";
      write(`+${+high.toPrecision(3)}${unit}`, x - 4, y + 4, "right", 11);
      write("0", x - 4, y + height / 2, "right", 11);
      write(`−${+(-low).toPrecision(3)}${unit}`, x - 4, y + height - 4, "right", 11);
    }

    listen() {
      const { canvas, viewer, plane } = this;
      let drag = null, turned = 0;
      const act = (event) => {
        const frame = canvas.getBoundingClientRect(), x = event.clientX - frame.left, y = event.clientY - frame.top;
        if (drag.kind === "curtain") viewer.set({ curtain: clamp(x / frame.width, 0, 1) });
        else if (drag.kind === "cross") viewer.set({ cross: this.voxelAt(x, y) });
        else viewer.window(drag.centre + ((y - drag.y) * drag.width) / 300, drag.width * Math.exp((x - drag.x) / 300), this.layer);
      };
      canvas.addEventListener("pointerdown", (event) => {
        const frame = canvas.getBoundingClientRect(), x = event.clientX - frame.left, y = event.clientY - frame.top;
        const swiped = viewer.state.mode === "swipe" && Math.abs(x - frame.width * viewer.state.curtain) < 16;
        const [low, high] = viewer.range(this.layer);
        const kind = event.button === 2 || event.shiftKey ? "window" : swiped ? "curtain" : "cross";
        drag = { kind, x, y, centre: (low + high) / 2, width: high - low };
        canvas.setPointerCapture(event.pointerId);
        if (kind !== "window") act(event);
      });
      canvas.addEventListener("pointermove", (event) => drag && act(event));
      for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { drag = null; });
      canvas.addEventListener("contextmenu", (event) => event.preventDefault());
      canvas.addEventListener("dblclick", () => viewer.set({ main: this.name }, true));
      canvas.addEventListener("focus", () => { viewer.active = this; });
      canvas.addEventListener("wheel", (event) => {
        const at = viewer.state.cross[plane.w], step = event.deltaY > 0 ? -1 : 1, last = viewer.it.shape[plane.w] - 1;
        const busy = performance.now() - viewer.scrolled < 300, end = step < 0 ? at === 0 : at === last;
        if (busy || end || event.ctrlKey) return; // the page goes on scrolling
        event.preventDefault();
        turned += Math.abs(event.deltaY) * (event.deltaMode ? 40 : 1);
        if (turned < 30) return;
        turned = 0;
        viewer.slice(plane, at + step);
      }, { passive: false });
    }
  }

  // ---------- The viewer: what is shown, and its controls ----------

  class Viewer {
    constructor(root) {
      this.root = root;
      this.state = { number: 0, cross: [0, 0, 0], image: "synthetic", other: "truth", mode: "single", main: "axial", curtain: 0.5, masks: true, smooth: true, zoom: 1 };
      this.ranges = {};
      this.panes = [];
      this.scrolled = -1000;
      signedColours = JSON.parse(root.querySelector("script.mv-colours").textContent);
      this.texts = [...root.querySelectorAll("script.mv-case")].map((each) => each.textContent);
      this.out = (name) => root.querySelector(`[data-out="${name}"]`);
      this.control = (name) => root.querySelector(`[data-do="${name}"]`);
      this.listen();
    }

    get layer() { return this.it.volume(this.state.mode === "difference" ? "difference" : this.state.image); }
    get other() { return this.it.volume(this.state.other); }
    mm() { return applied(this.it.affine, this.state.cross); }
    range(layer) { // lowest and highest shown value
      const group = layer.group, spread = this.ranges[group].spread;
      return isSigned(layer) ? [-spread, spread] : this.ranges[group].window;
    }

    async open(number) {
      const state = this.state, before = this.it && this.it.affine ? this.it.windows : null;
      this.state.number = number;
      this.control("case").value = String(number);
      this.say("Loading …");
      try {
        const it = await Case.load(this.texts[number]);
        if (this.state.number !== number) return; // another case was selected meanwhile
        this.it = it;
      } catch (error) {
        this.it = { problems: [`this browser cannot unpack the case (${error.message}); use one of 2023 or newer`], layers: [], volumes: [], masks: [] };
      }
      const it = this.it, shown = Boolean(it.volumes.length);
      this.say(it.problems.map((problem) => `Not shown: ${problem}`).join("\n"));
      for (const part of this.root.querySelectorAll(".mv-below, .mv-bar[data-for]")) part.hidden = !shown;
      this.root.querySelector(".mv-bar").hidden = false;
      this.root.dataset.ready = "yes";
      if (!shown) { this.out("stage").replaceChildren(); return; }
      for (const [group, { presets, spread }] of Object.entries(it.windows)) {
        if (group !== "HU" || !before || !before.HU) this.ranges[group] = { window: Object.values(presets)[0], spread };
      }
      const names = it.volumes.map((layer) => layer.name);
      for (const layer of it.volumes) this.ranges[layer.group] ||= { window: [0, 1], spread: 100 };
      if (!names.includes(state.image)) state.image = names[0];
      if (!names.includes(state.other) || state.other === state.image) state.other = this.it.images.map((each) => each.name).find((name) => name !== state.image) || state.image;
      if ((state.mode === "difference" && !it.difference) || (["swipe", "side"].includes(state.mode) && it.images.length < 2)) state.mode = "single";
      state.cross = it.shape.map((size) => Math.floor(size / 2));
      state.zoom = 1;
      this.fillControls();
      this.arrange();
    }

    fillControls() {
      const { it, state } = this, item = (made) => { const line = document.createElement("li"); line.append(made); return line; };
      const button = (text, run) => {
        const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
        made.addEventListener("click", run);
        return made;
      };
      this.root.querySelector('[data-list="image"]').replaceChildren(...it.volumes.map((layer) => {
        const made = button(layer.title, () => this.choose(layer.name));
        made.dataset.image = layer.name;
        return made;
      }));
      const options = it.images.map((layer) => new Option(layer.title, layer.name));
      this.control("other").replaceChildren(...options);
      for (const made of this.root.querySelectorAll("[data-mode]")) {
        const mode = made.dataset.mode;
        made.disabled = { single: false, difference: !it.difference, volume: !window.medganVolume }[mode] ?? it.images.length < 2;
        if (mode === "volume" && made.disabled) made.title = "Not in this page: this installation of medgan lacks NiiVue";
      }
      const labels = it.masks.flatMap((mask) => mask.labels), quick = labels.length > MANY_LABELS ? ["All", "None"] : [];
      if (!this.unmarked) Object.assign(state, { masks: labels.length <= MANY_LABELS }); // the next case has what was chosen here
      this.unmarked ||= new Set();
      this.out("legend").replaceChildren(...quick.map((text) => item(button(text, () => this.mark(text === "All" ? [] : labels)))), ...labels.map((text, i) => {
        const made = button("", () => this.mark(labels.filter((each) => this.unmarked.has(each) !== (each === text)))), mark = document.createElement("span");
        mark.style.background = OUTLINES[i % OUTLINES.length];
        made.dataset.label = text;
        made.append(mark, text);
        return item(made);
      }));
      this.out("caption").textContent = it.caption;
      this.out("notes").replaceChildren(...it.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
    }

    arrange() { // panes for the mode, then everything anew
      const { state, it } = this, focused = document.activeElement.matches(".mv canvas");
      if (state.mode === "volume") { this.showVolume(focused); return; }
      if (state.mode === "side") {
        this.panes = it.images.map((layer) => new Pane(this, state.main, layer, true));
        const [wide, high] = ["u", "v"].map((side) => it.shape[PLANES[state.main][side]] * it.spacing[PLANES[state.main][side]]);
        for (const pane of this.panes) pane.canvas.style.aspectRatio = `${wide} / ${high}`;
      }
      else {
        const planes = Object.keys(PLANES).filter((name) => it.shape[PLANES[name].u] > 1 && it.shape[PLANES[name].v] > 1); // of a slice, one
        if (!planes.includes(state.main)) state.main = planes[0] || "axial";
        const order = [state.main, ...planes.filter((name) => name !== state.main)];
        this.panes = order.map((name, i) => new Pane(this, name, this.layer, i === 0));
      }
      const stage = this.out("stage");
      stage.dataset.layout = state.mode === "side" ? "side" : this.panes.length > 1 ? "planes" : "one";
      stage.replaceChildren(...this.panes.map((pane) => pane.figure));
      this.active = this.panes[0];
      if (focused) this.active.canvas.focus({ preventScroll: true });
      this.fillWindows();
      this.refresh();
    }

    async showVolume(focused) { // in 3D, by viewer3d.js
      const { it, state } = this, stage = this.out("stage");
      this.panes = [];
      this.active = null;
      stage.dataset.layout = "volume";
      this.fillWindows();
      this.refresh();
      this.say("Loading the 3D view …");
      try {
        await window.medganVolume.show(stage, it, this.layer, state.masks ? it.masks : [], OUTLINES, this.unmarked, this.range(this.layer));
        this.say("");
        if (focused) stage.querySelector("canvas").focus({ preventScroll: true });
      } catch (error) {
        this.set({ mode: "single" }, true);
        this.say(`The 3D view is not shown: ${error.message}.`);
      }
    }

    fillWindows() {
      const layer = this.layer, presets = this.it.windows[layer.group] ? Object.entries(this.it.windows[layer.group].presets) : [];
      this.presets = presets;
      this.root.querySelector('[data-list="windows"]').replaceChildren(...presets.map(([name, [low, high]], i) => {
        const made = Object.assign(document.createElement("button"), { type: "button", textContent: name });
        const unit = layer.unit ? ` ${layer.unit}` : "";
        made.title = `${+low.toPrecision(4)} … ${+high.toPrecision(4)}${unit} (${i + 1})`;
        made.addEventListener("click", () => this.preset(i));
        return made;
      }));
    }

    preset(i) {
      const [, [low, high]] = this.presets[i];
      this.window((low + high) / 2, high - low, this.layer);
    }

    window(centre, width, layer) {
      if (!Number.isFinite(centre) || !(width > 0)) return;
      this.ranges[layer.group].window = [centre - width / 2, centre + width / 2];
      this.set({}, this.state.mode === "volume");
    }

    slice(plane, at) {
      const cross = [...this.state.cross];
      cross[plane.w] = clamp(at, 0, this.it.shape[plane.w] - 1);
      this.set({ cross });
    }

    set(change, rearrange = false) {
      Object.assign(this.state, change);
      if (rearrange || (this.state.mode === "volume" && "masks" in change)) this.arrange(); else this.refresh();
    }

    mode(mode) {
      const made = this.root.querySelector(`[data-mode="${mode}"]`);
      if (made.disabled) return;
      const next = this.state.mode === mode ? "single" : mode;
      if (next === "swipe" && this.state.image === this.state.other) {
        this.state.other = this.it.images.map((each) => each.name).find((name) => name !== this.state.image);
      }
      this.set({ mode: next }, true);
    }

    choose(image) { // beside another one in swipe
      const other = image === this.state.other ? this.state.image : this.state.other;
      this.set({ image, other, mode: this.modeOfOne() }, true);
    }

    mark(unmarked) { this.unmarked = new Set(unmarked); this.set({ masks: true }); }

    modeOfOne() { return ["swipe", "volume"].includes(this.state.mode) ? this.state.mode : "single"; }

    say(text) { this.out("message").textContent = text; this.out("message").hidden = !text; }

    refresh() { // once a frame, however often it is asked for
      this.pending ||= requestAnimationFrame(() => { this.pending = null; this.draw(); });
    }

    draw() {
      const { state, it } = this;
      for (const pane of this.panes) pane.draw();
      const press = (made, on) => made.setAttribute("aria-pressed", String(on));
      for (const made of this.root.querySelectorAll("[data-mode]")) press(made, made.dataset.mode === state.mode);
      for (const made of this.root.querySelectorAll("[data-image]")) press(made, made.dataset.image === state.image && this.modeOfOne() === state.mode);
      press(this.control("masks"), state.masks);
      press(this.control("smooth"), state.smooth);
      for (const made of this.root.querySelectorAll("[data-label]")) press(made, !this.unmarked.has(made.dataset.label));
      this.out("legend").hidden = !state.masks || !it.masks.length;
      this.control("masks").hidden = !it.masks.length;
      this.root.querySelector('[data-for="swipe"]').hidden = state.mode !== "swipe";
      this.control("other").value = state.other;
      const signed = isSigned(this.layer), { window: [low, high], spread } = this.ranges[this.layer.group];
      this.root.querySelector('[data-for="spread"]').hidden = !signed;
      for (const part of this.root.querySelectorAll('[data-for="grey"]')) part.hidden = signed;
      [...this.root.querySelector('[data-list="windows"]').children].forEach((made, i) => press(made, this.presets[i][1][0] === low && this.presets[i][1][1] === high));
      for (const [name, value] of [["centre", (low + high) / 2], ["width", high - low], ["spread", spread]]) {
        if (document.activeElement !== this.control(name)) this.control(name).value = +value.toPrecision(5);
      }
      this.readOut();
    }

    readOut() {
      const { it, state } = this, mm = this.mm();
      const place = mm.map((value, axis) => `${["LR", "PA", "IS"][axis][value < 0 ? 0 : 1]} ${Math.abs(value).toFixed(1)}`);
      this.out("place").textContent = `${place.join("  ")} mm`;
      const rows = it.volumes.concat(it.difference || [], it.masks).map((layer) => {
        const value = it.value(layer, state.cross), row = document.createElement("tr");
        const text = layer.labels ? (value ? layer.labels[value - 1] : "–") : `${+value.toPrecision(5)}${layer.unit ? ` ${layer.unit}` : ""}`.replace("-", "−");
        row.append(Object.assign(document.createElement("th"), { scope: "row", textContent: layer.title }), Object.assign(document.createElement("td"), { textContent: text }));
        return row;
      });
      this.out("values").replaceChildren(...rows);
    }

    listen() {
      const root = this.root, on = (name, event, run) => this.control(name).addEventListener(event, run);
      const typed = (name) => Number.parseFloat(this.control(name).value);
      on("case", "change", () => { location.hash = `case-${Number(this.control("case").value) + 1}`; });
      on("other", "change", () => this.set({ other: this.control("other").value }));
      for (const name of ["masks", "smooth"]) on(name, "click", () => this.set({ [name]: !this.state[name] }));
      for (const name of ["centre", "width"]) on(name, "input", () => this.window(typed("centre"), typed("width"), this.layer));
      on("spread", "input", () => {
        if (typed("spread") > 0) { this.ranges[this.layer.group].spread = typed("spread"); this.refresh(); }
      });
      on("help", "click", () => root.querySelector("dialog").showModal());
      on("full", "click", () => (document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen()));
      for (const made of root.querySelectorAll("[data-mode]")) made.addEventListener("click", () => this.mode(made.dataset.mode));
      root.addEventListener("keydown", (event) => this.key(event));
      addEventListener("scroll", () => { this.scrolled = performance.now(); }, { passive: true });
      new ResizeObserver(() => this.it && this.it.affine && this.refresh()).observe(this.out("stage"));
      addEventListener("hashchange", () => this.follow());
    }

    async follow() { // the case in the page's address, and the place in it: #case-3 or #case-3@12,-40.5,100
      const asked = /^#case-(\d+)(?:@(-?[\d.]+),(-?[\d.]+),(-?[\d.]+))?$/.exec(location.hash), number = asked ? asked[1] - 1 : 0;
      if (asked && this.texts[number]) this.root.scrollIntoView();
      if (!this.it || (asked && this.texts[number] && number !== this.state.number)) await this.open(this.texts[number] ? number : 0);
      if (asked && asked[2] && this.it.affine) this.set({ cross: this.it.nearest(asked.slice(2).map(Number)) });
    }

    key(event) {
      if (!this.it || !this.it.affine || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("dialog, select, input:not([type=range])")) return;
      const { state, it } = this, plane = this.active ? this.active.plane : PLANES[state.main], at = state.cross[plane.w], last = it.shape[plane.w] - 1;
      const sideways = (step) => (state.mode === "swipe" ? this.set({ curtain: clamp(state.curtain + step * 0.05, 0, 1) }) : this.slice(plane, at + step));
      const next = (list, now) => list[(list.indexOf(now) + 1) % list.length];
      const zoom = (factor) => this.set({ zoom: clamp(state.zoom * factor, 1, 12) });
      const names = it.volumes.map((layer) => layer.name);
      const now = this.presets.findIndex(([, [low, high]]) => low === this.ranges[this.layer.group].window[0] && high === this.ranges[this.layer.group].window[1]);
      const keys = {
        ArrowUp: () => this.slice(plane, at + 1), ArrowDown: () => this.slice(plane, at - 1),
        ArrowLeft: () => sideways(-1), ArrowRight: () => sideways(1),
        PageUp: () => this.slice(plane, at + 10), PageDown: () => this.slice(plane, at - 10),
        Home: () => this.slice(plane, last), End: () => this.slice(plane, 0),
        w: () => this.presets.length && this.preset((now + 1) % this.presets.length),
        v: () => this.choose(next(names, state.image)),
        s: () => this.mode("swipe"), b: () => this.mode("side"), d: () => this.mode("difference"), t: () => this.mode("volume"),
        m: () => this.set({ masks: !state.masks }), i: () => this.set({ smooth: !state.smooth }),
        x: () => this.set({ main: next(Object.keys(PLANES), state.main) }, true),
        "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: () => zoom(0),
        n: () => this.turn(1), p: () => this.turn(-1),
        f: () => this.control("full").click(), "?": () => this.control("help").click(),
      };
      const run = /^[1-9]$/.test(event.key) ? () => this.presets[event.key - 1] && this.preset(event.key - 1) : keys[event.key];
      if (!run) return;
      event.preventDefault();
      run();
    }

    turn(step) {
      const number = this.state.number + step;
      if (this.texts[number]) location.hash = `case-${number + 1}`;
    }
  }

  function start() {
    const root = document.querySelector(".mv");
    if (!root) return;
    const viewer = new Viewer(root);
    const ready = viewer.follow().then(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
    window.medganViewer = {
      ready,
      open: (wanted) => viewer.open(wanted - 1),
      goTo: (mm) => viewer.set({ cross: viewer.it.nearest(mm) }),
      valueAt: (name, mm) => viewer.it.value(viewer.it.volume(name), viewer.it.nearest(mm)),
      pixelOf: (plane, mm) => {
        const pane = viewer.panes.find((each) => each.name === plane), box = pane.layout(), { u, v } = pane.plane, voxel = applied(viewer.it.toVoxel, mm);
        const place = (axis, origin, size) => origin + size * (1 - (voxel[axis] + 0.5) / viewer.it.shape[axis]);
        return { x: place(u, box.x, box.w), y: place(v, box.y, box.h) };
      },
      get state() { return { ...viewer.state, ranges: structuredClone(viewer.ranges) }; },
    };
  }
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start); else start();
})();
