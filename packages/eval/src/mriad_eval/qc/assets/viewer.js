// The 3D viewer of the quality-control page, on NiiVue. Volumes come as one script file a case, loaded on demand: a
// page that was opened from disk may not fetch. NiiVue itself is loaded when the viewer is first shown.
"use strict";

window.QC = (() => {
  const CONTOUR = 0.001; // drawn as outline alone: exactly 0 would keep or drop a volume by its place
  const waiting = new Map();
  let nv = null;
  let starting = null;
  let epoch = 0;
  let shown = 0; // number of the case in the canvas
  let volumes = null; // role → NVImage of that case
  let facts = null;

  function script(source) {
    return new Promise((done, failed) => {
      const tag = document.createElement("script");
      tag.src = source;
      tag.onload = () => { tag.remove(); done(); };
      tag.onerror = () => { tag.remove(); failed(new Error("a file of this page is missing: " + source)); };
      document.head.append(tag);
    });
  }

  async function fetchCase(number) {
    const name = "cases/" + String(number).padStart(4, "0") + ".js";
    const got = new Promise((done) => waiting.set(number, done));
    await script(name);
    return got;
  }

  function deliver(number, told) {
    const done = waiting.get(number);
    waiting.delete(number);
    if (done) done(told);
  }

  async function start(canvas) {
    await script("app/niivue.umd.js");
    const made = new niivue.Niivue({
      logLevel: "error", dragAndDropEnabled: false, isNearestInterpolation: true, backColor: [0.043, 0.055, 0.075, 1],
      clipPlaneHotKey: "", cycleClipPlaneHotKey: "", viewModeHotKey: "", isRadiologicalConvention: true, sagittalNoseLeft: true,
      crosshairColor: [1, 0.9, 0.45, 0.55], crosshairWidth: 0.2, crosshairGap: 5, show3Dcrosshair: false, isColorbar: false,
      multiplanarLayout: niivue.MULTIPLANAR_TYPE.GRID, multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS,
    });
    await made.attachToCanvas(canvas);
    made.setSliceType(niivue.SLICE_TYPE.MULTIPLANAR);
    return made;
  }

  function rgb(hex) {
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  }

  // A label table: value 0 is background, every other value one of `colours` (the last one goes on).
  function labels(image, top, colours) {
    const table = { R: [0], G: [0], B: [0], I: [0] };
    for (let value = 1; value <= Math.max(top, 1); value++) {
      const [r, g, b] = rgb(colours[Math.min(value, colours.length) - 1]);
      table.R.push(r); table.G.push(g); table.B.push(b); table.I.push(value);
    }
    image.setColormapLabel(table);
  }

  async function decode(told, colours) {
    const made = {};
    const read = (role, more) => niivue.NVImage.loadFromBase64({
      base64: told.volumes[role].base64, name: role + ".nii.gz", colormap: "gray", opacity: 1, ...more });
    made.scan = await read("scan", { cal_min: 0, cal_max: told.bare ? 1 : 255 });
    const palettes = {
      reference: [colours.reference], prediction: [colours.prediction],
      difference: [colours.both, colours.prediction, colours.reference, colours.other],
    };
    for (const [role, palette] of Object.entries(palettes)) {
      if (!told.volumes[role]) continue;
      made[role] = await read(role, {});
      labels(made[role], told.volumes[role].top, palette);
    }
    if (told.volumes.soft) made.soft = await read("soft", { colormap: "viridis", cal_min: 0, cal_max: 1 });
    return made;
  }

  // What lies over the scan in a mode, in drawing order: [image, opacity].
  function layers(mode, want) {
    const over = [];
    const add = (role, opacity) => { if (volumes[role]) over.push([volumes[role], opacity]); };
    if (mode === "difference") add("difference", 0.65);
    if (mode === "soft") add("soft", 1);
    const level = mode === "fill" ? 0.5 : CONTOUR;
    if (mode !== "difference") {
      if (want.reference) add("reference", level);
      if (want.prediction && mode !== "soft") add("prediction", level);
    }
    return over;
  }

  function draw(want) {
    const over = layers(want.mode, want);
    nv.opts.atlasOutline = want.mode === "contours" || want.mode === "soft" ? 1 : 0;
    nv.opts.multiplanarShowRender = want.render ? niivue.SHOW_RENDER.ALWAYS : niivue.SHOW_RENDER.NEVER;
    volumes.scan.opacity = 1;
    const stack = [volumes.scan];
    for (const [image, opacity] of over) {
      image.opacity = opacity;
      stack.push(image);
      // The ramp fades out towards 0: a colour map's own alpha would only be on or off.
      image.modulationImage = image === volumes.soft ? stack.length - 1 : null;
      image.modulateAlpha = image === volumes.soft ? 1 : 0;
    }
    nv.volumes = stack;
    place(want.zoom);
    nv.setVolume(volumes.scan, 0); // uploads and draws
  }

  // The crosshair at the structures, and the slices as near as they need to be.
  function place(zoomed) {
    let zoom = 1;
    if (facts.centre) {
      nv.scene.crosshairPos = nv.mm2frac(facts.centre);
      const dims = volumes.scan.hdr.dims, size = volumes.scan.hdr.pixDims;
      const field = Math.min(dims[1] * size[1], dims[2] * size[2], dims[3] * size[3]);
      if (zoomed) zoom = Math.min(Math.max(field / (1.3 * facts.extent), 1), 6);
    }
    const at = facts.centre || [0, 0, 0];
    nv.scene.pan2Dxyzmm = [...at.map((mm) => (1 - zoom) * mm), zoom];
  }

  /** Show a case; a call that comes while another loads overtakes it. Resolves to whether this call drew. */
  async function show(canvas, number, want, colours) {
    const mine = ++epoch;
    if (!starting) starting = start(canvas);
    try {
      nv = await starting;
    } catch (error) {
      starting = null;
      throw error;
    }
    if (mine !== epoch) return false;
    if (number !== shown) {
      const told = await fetchCase(number);
      if (mine !== epoch) return false;
      const made = await decode(told, colours);
      if (mine !== epoch) return false;
      facts = told;
      volumes = made;
      shown = number;
      facts.has = Object.keys(told.volumes).filter((role) => told.volumes[role].top > 0);
      delete facts.volumes; // the text is not needed any more
    }
    draw(want);
    return true;
  }

  return { deliver, show, facts: () => facts, shown: () => shown, viewer: () => nv };
})();
