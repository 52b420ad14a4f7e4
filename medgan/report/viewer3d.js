// The 3D view of the slice viewer: NiiVue, which is unpacked from the page when it is first asked for.
"use strict";
(() => {
  const STYLES = { // of CT in NiiVue's own colours, with the HU where they begin and end
    bones: { title: "Bone", colormap: "ct_bones", range: [120, 500] },
    soft: { title: "Soft tissue", colormap: "ct_soft_tissue", range: [-10, 110] },
    skin: { title: "Surface", colormap: "ct_surface", range: [-600, 100] },
    window: { title: "Grey, in the window", colormap: "gray", range: null },
  };
  let view = null, frame = null, style = null; // one for the page: browsers allow few WebGL contexts

  async function library() {
    if (!window.niivue) {
      const packed = document.querySelector("script.mv-niivue").textContent;
      const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
      const text = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
      document.head.append(Object.assign(document.createElement("script"), { textContent: text }));
    }
    return window.niivue;
  }

  function nifti(it, layer) { // a NIfTI-1 file of a layer, as base64
    const bytes = layer.voxels.BYTES_PER_ELEMENT, header = new DataView(new ArrayBuffer(352));
    const short = (at, value) => header.setInt16(at, value, true), float = (at, value) => header.setFloat32(at, value, true);
    header.setInt32(0, 348, true);
    [3, ...it.shape, 1, 1, 1, 1].forEach((value, i) => short(40 + 2 * i, value));
    short(70, bytes === 1 ? 2 : 4); // uint8 or int16
    short(72, 8 * bytes);
    [1, ...it.spacing, 1, 1, 1, 1].forEach((value, i) => float(76 + 4 * i, value));
    float(108, 352);
    float(112, layer.step || 1);
    header.setUint8(123, 2); // mm
    short(254, 1); // the affine speaks of the scanner
    it.affine.slice(0, 3).forEach((row, r) => row.forEach((value, c) => float(280 + 16 * r + 4 * c, value)));
    [0x6e, 0x2b, 0x31, 0].forEach((value, i) => header.setUint8(344 + i, value));
    return new Promise((resolve) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
      reader.readAsDataURL(new Blob([header.buffer, layer.voxels]));
    });
  }

  async function make(stage) {
    const { Niivue } = await library(), canvas = document.createElement("canvas"), field = document.createElement("label");
    if (!canvas.getContext("webgl2")) throw new Error("it needs WebGL 2, which this browser does not give");
    frame = document.createElement("figure");
    frame.className = "mv-3d";
    style = document.createElement("select");
    field.className = "mv-field";
    field.append("Shown as ", style);
    canvas.setAttribute("role", "img");
    canvas.tabIndex = 0;
    const box = document.createElement("div");
    box.append(canvas);
    frame.append(box, field);
    stage.replaceChildren(frame);
    view = new Niivue({ backColor: [0, 0, 0, 1], show3Dcrosshair: false, dragAndDropEnabled: false, loadingText: "", logLevel: "silent" });
    await view.attachToCanvas(canvas);
    view.setSliceType(view.sliceTypeRender);
    view.setRenderAzimuthElevation(160, 10); // nearly from the front: the patient's right is on the left
  }

  // Show a layer of a case in `stage`, with masks in their colours over it, but for `hidden` labels; `range` is the window for grey.
  async function show(stage, it, layer, masks, colours, hidden, range) {
    if (!view) await make(stage);
    stage.replaceChildren(frame);
    view.canvas.setAttribute("aria-label", `${layer.title} in three dimensions, nearly from the front; drag to turn`);
    const { NVImage } = window.niivue;
    for (const old of [...view.volumes]) view.removeVolume(old);
    view.addVolume(await NVImage.loadFromBase64({ base64: await nifti(it, layer), name: `${layer.name}.nii` }));
    let first = 0;
    for (const mask of masks) {
      const image = await NVImage.loadFromBase64({ base64: await nifti(it, mask), name: `${mask.name}.nii`, opacity: 0.7 });
      const channel = (at) => [0, ...mask.labels.map((_, i) => parseInt(colours[(first + i) % colours.length].slice(at, at + 2), 16))];
      image.setColormapLabel({ R: channel(1), G: channel(3), B: channel(5), A: [0, ...mask.labels.map((text) => (hidden.has(text) ? 0 : 255))], I: [0, ...mask.labels.map((_, i) => i + 1)], labels: ["", ...mask.labels] });
      view.addVolume(image);
      first += mask.labels.length;
    }
    const names = Object.keys(STYLES).filter((name) => layer.unit === "HU" || name === "window"), before = style.value;
    style.replaceChildren(...names.map((name) => new Option(STYLES[name].title, name)));
    style.value = names.includes(before) ? before : names[0];
    style.onchange = () => {
      const { colormap, range: own } = STYLES[style.value];
      [view.volumes[0].cal_min, view.volumes[0].cal_max] = own || range;
      view.setColormap(view.volumes[0].id, colormap);
      view.updateGLVolume();
    };
    style.onchange();
  }

  window.medganVolume = { show };
})();
