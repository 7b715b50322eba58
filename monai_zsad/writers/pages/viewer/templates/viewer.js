(() => {
  "use strict";
  const home = document.getElementById("viewer");
  const settings = JSON.parse(home.querySelector('[data-viewer="settings"]').textContent);
  const state = home.querySelector(".viewer-state");
  const box = home.querySelector(".viewer-box");
  const canvas = box.querySelector("canvas");
  const hint = home.querySelector(".viewer-hint");
  const control = (name) => home.querySelector(`[name="${name}"]`);
  const [low, high] = settings.limits;
  // Order of the buttons: three planes, axial, coronal, sagittal. For each NiiVue's number of the view.
  const VIEWS = [3, 0, 1, 2];
  // The axis through NiiVue's planes axial, coronal, sagittal.
  const AXES = [2, 1, 0];
  const NAMES = ["axial", "coronal", "sagittal"];
  // Left, right, top and bottom of them.
  const SIDES = ["RLAP", "RLSI", "APSI"];
  const MAP = 1, OUTLINES = 2, OPACITY = 3;
  let nv = null, view = 0, plane = 0, candidate = 0, wanted = null;

  const fixed = (value, digits) => (Object.is(Math.round(value * 10 ** digits), -0) ? 0 : value).toFixed(digits);
  const digitsOf = (range) => Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(range || 1))));

  function show(point) {
    wanted = point;
    if (!nv) return;
    nv.scene.crosshairPos = nv.mm2frac(point, 0, true).map((part) => Math.min(1, Math.max(0, part)));
    moved();
    nv.drawScene();
  }

  function moved() {
    const ras = Array.from(nv.frac2mm(nv.scene.crosshairPos, 0, true)).slice(0, 3);
    const [scan, anomaly] = [0, MAP].map((index) => {
      const volume = nv.volumes[index];
      return volume.getValue(...volume.mm2vox(ras), 0);
    });
    const sides = ["LR", "PA", "IS"].map((pair, axis) => `${pair[+(ras[axis] >= 0)]} ${fixed(Math.abs(ras[axis]), 1)}`);
    const inLps = document.documentElement.classList.contains("in-lps");
    const shown = ras.map((value, axis) => fixed(inLps && axis < 2 ? -value : value, 1));
    control("position").textContent =
      `${sides.join("  ")} mm (${inLps ? "LPS" : "RAS"} ${shown.join(", ")})   ` +
      `scan ${fixed(scan, digitsOf(settings.grey[1] - settings.grey[0]))}   anomaly ${fixed(anomaly, 3)}`;
    const slider = control("slice"), axis = AXES[plane];
    slider.max = nv.volumes[0].dimsRAS[axis + 1] - 1;
    slider.value = voxel()[axis];
    slider.parentNode.firstChild.textContent = `Slice, ${NAMES[plane]} `;
    document.dispatchEvent(new CustomEvent("zsad:crosshair", { detail: { ras, scan, anomaly } }));
  }

  const voxel = () => Array.from(nv.frac2vox(nv.scene.crosshairPos));

  function toSlice(number) {
    const axis = AXES[plane], count = nv.volumes[0].dimsRAS[axis + 1], place = Array.from(nv.scene.crosshairPos);
    place[axis] = (Math.min(count - 1, Math.max(0, number)) + 0.5) / count;
    nv.scene.crosshairPos = place;
    moved();
    nv.drawScene();
  }

  const scroll = (slices) => toSlice(voxel()[AXES[plane]] + slices);

  function toView(number) {
    view = number;
    if (number) plane = number - 1;
    nv.setSliceType(VIEWS[number]);
    for (const button of home.querySelectorAll("[data-view]"))
      button.setAttribute("aria-pressed", String(+button.dataset.view === number));
    moved();
    letters();
  }

  // In a view of one plane, NiiVue writes the letters of the sides in a wrong place.
  function letters() {
    for (const old of box.querySelectorAll("span")) old.remove();
    for (const { axCorSag, leftTopWidthHeight } of nv.screenSlices) {
      if (!SIDES[axCorSag]) continue;
      const [left, top, width, height] = Array.from(leftTopWidthHeight, (pixels) => Math.abs(pixels) / devicePixelRatio);
      [[0, 0.5], [1, 0.5], [0.5, 0], [0.5, 1]].forEach(([across, down], side) => {
        const letter = document.createElement("span");
        letter.textContent = SIDES[axCorSag][side];
        letter.style.left = `${left + across * (width - 20)}px`;
        letter.style.top = `${top + down * (height - 20)}px`;
        box.append(letter);
      });
    }
  }

  function toCandidate(step) {
    const count = settings.points.length;
    if (!count) return;
    candidate = (candidate + step + count) % count;
    show(settings.points[candidate]);
  }

  // NiiVue draws an overlay with one opacity. Here the opacity of a voxel grows with its value, as in the images of the
  // report; a volume of its own holds it.
  function drawMap() {
    const from = +control("threshold").value, most = control("map").checked ? +control("opacity").value : 0;
    const map = nv.volumes[MAP], values = map.img, opacities = nv.volumes[OPACITY].img;
    const table = new Uint8Array(256).map((_, code) => {
      const value = code * map.hdr.scl_slope + map.hdr.scl_inter;
      const share = Math.min(1, Math.max(0, (value - low) / (high - low)));
      return value < from - map.hdr.scl_slope / 2 ? 0 : 255 * most * Math.min(1, 2.5 * share);
    });
    for (let index = 0; index < values.length; index++) opacities[index] = table[values[index]];
    if (control("outlines")) nv.volumes[OUTLINES].opacity = control("outlines").checked ? 1 : 0;
    control("threshold-value").textContent = fixed(from, 3);
    redraw();
  }

  // Sliders move faster than volumes are drawn.
  let drawing = 0;
  function redraw() {
    cancelAnimationFrame(drawing);
    drawing = requestAnimationFrame(() => nv.updateGLVolume());
  }

  function drawScan() {
    const scan = nv.volumes[0], black = +control("black").value, white = +control("white").value;
    scan.cal_min = black;
    scan.cal_max = Math.max(white, black + (settings.grey[1] - settings.grey[0]) / 1000);
    showWindow();
    redraw();
  }

  function showWindow() {
    const scan = nv.volumes[0], digits = digitsOf(settings.grey[1] - settings.grey[0]);
    for (const [name, value] of [["black", scan.cal_min], ["white", scan.cal_max]]) {
      control(name).value = value;
      control(`${name}-value`).textContent = fixed(value, digits);
    }
  }

  const range = (name, from, to, value) => Object.assign(control(name), { min: from, max: to, step: (to - from) / 200, value });

  function connect() {
    const scan = nv.volumes[0];
    const ends = settings.levels.length ? [-1024, 2000] : [scan.global_min, scan.global_max];
    range("threshold", low, high, low);
    range("black", ...ends, settings.grey[0]);
    range("white", ...ends, settings.grey[1]);
    control("low").textContent = fixed(low, 3);
    control("high").textContent = fixed(high, 3);
    const stops = settings.colours.map((colour) => `rgb(${colour})`);
    home.querySelector(".viewer-scale i").style.background = `linear-gradient(to right, ${stops})`;
    for (const name of ["map", "opacity", "threshold", "outlines"])
      if (control(name)) control(name).addEventListener("input", drawMap);
    for (const name of ["black", "white"])
      control(name).addEventListener("input", () => {
        if (control("preset")) control("preset").value = "";
        drawScan();
      });
    if (control("preset"))
      control("preset").addEventListener("change", (event) => {
        const window = settings.presets[event.target.value] || settings.grey;
        [scan.cal_min, scan.cal_max] = window;
        showWindow();
        redraw();
      });
    control("slice").addEventListener("input", (event) => toSlice(+event.target.value));
    for (const button of home.querySelectorAll("[data-view]"))
      button.addEventListener("click", () => toView(+button.dataset.view));
    new ResizeObserver(() => requestAnimationFrame(() => requestAnimationFrame(letters))).observe(box);
    box.addEventListener("keydown", onKey, true);
    box.addEventListener("keyup", (event) => event.stopPropagation(), true);
  }

  const KEYS = {
    ArrowUp: () => scroll(1),
    ArrowDown: () => scroll(-1),
    PageUp: () => scroll(10),
    PageDown: () => scroll(-10),
    Home: () => toSlice(0),
    End: () => toSlice(Infinity),
    ArrowLeft: () => toCandidate(-1),
    ArrowRight: () => toCandidate(1),
    m: () => control("map").click(),
    o: () => control("outlines") && control("outlines").click(),
    Escape: () => canvas.blur(),
    ...Object.fromEntries(VIEWS.map((_, number) => [String(number + 1), () => toView(number)])),
  };

  function onKey(event) {
    // NiiVue's own keys would change the view behind the buttons.
    event.stopPropagation();
    const action = KEYS[event.key] || KEYS[event.key.toLowerCase()];
    if (!action || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    action();
  }

  // NiiVue stops the scrolling of the page whenever wheel or finger are over its canvas. It gets the wheel only after a
  // click into the image, and fingers only as clicks.
  box.addEventListener("wheel", (event) => {
    if (document.activeElement === canvas && !event.ctrlKey) return;
    event.stopPropagation();
    hint.hidden = false;
    clearTimeout(hint.timer);
    hint.timer = setTimeout(() => { hint.hidden = true; }, 1600);
  }, { capture: true, passive: true });
  for (const name of ["touchstart", "touchmove", "touchend"])
    box.addEventListener(name, (event) => event.stopPropagation(), { capture: true, passive: true });
  canvas.addEventListener("focus", () => { hint.hidden = true; });

  const target = (event) => event.target instanceof Element && event.target.closest("[data-ras]");
  function go(element) {
    const point = element.dataset.ras.split(",").map(Number);
    if (point.length !== 3 || !point.every(Number.isFinite)) return;
    const known = settings.points.findIndex((other) => other.every((value, axis) => Math.abs(value - point[axis]) < 0.06));
    if (known >= 0) candidate = known;
    show(point);
    const place = box.getBoundingClientRect();
    if (place.top < 0 || place.bottom > innerHeight) home.scrollIntoView({ block: "start" });
  }
  document.addEventListener("click", (event) => { if (target(event)) go(target(event)); });
  document.addEventListener("keydown", (event) => {
    const element = target(event);
    // A button and a link are clicked by Enter anyway.
    if (!element || event.key !== "Enter" || element.matches("button, a[href]")) return;
    event.preventDefault();
    go(element);
  });

  async function unpack(name) {
    const element = home.querySelector(`[data-viewer="${name}"]`), text = atob(element.textContent);
    element.remove();
    const bytes = new Uint8Array(text.length);
    for (let index = 0; index < text.length; index++) bytes[index] = text.charCodeAt(index);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  // The file of a CT holds the number of a grey value; NiiVue needs HU, 16 bit.
  function inHounsfield(file) {
    const start = 352, codes = new Uint8Array(file, start), wide = new ArrayBuffer(start + 2 * codes.length);
    new Uint8Array(wide).set(new Uint8Array(file, 0, start));
    const header = new DataView(wide), values = new Int16Array(wide, start);
    header.setInt16(70, 4, true);
    header.setInt16(72, 16, true);
    for (let index = 0; index < codes.length; index++) values[index] = settings.levels[codes[index]];
    return wide;
  }

  // A copy without slope and intercept.
  function plain(file) {
    const copy = file.slice(0), header = new DataView(copy);
    header.setFloat32(112, 1, true);
    header.setFloat32(116, 0, true);
    return copy;
  }

  async function start() {
    const address = URL.createObjectURL(new Blob([await unpack("niivue")], { type: "text/javascript" }));
    const { Niivue } = await import(address);
    URL.revokeObjectURL(address);
    home.querySelector(".viewer-body").hidden = false;
    const viewer = new Niivue({
      isRadiologicalConvention: true, sagittalNoseLeft: true, multiplanarShowRender: 0, multiplanarPadPixels: 4,
      dragAndDropEnabled: false, show3Dcrosshair: false, isColorbar: false, logLevel: "error", loadingText: "",
      crosshairWidth: 0.6, crosshairWidthUnit: "mm", isOrientationTextVisible: false, crosshairColor: [0.2, 0.75, 1, 0.8],
      backColor: [0, 0, 0, 1], isAntiAlias: true,
    });
    await viewer.attachToCanvas(canvas, true);
    const scan = await unpack("scan");
    await viewer.loadFromArrayBuffer(settings.levels.length ? inHounsfield(scan) : scan, "scan.nii");
    const anomaly = await unpack("anomaly");
    await viewer.loadFromArrayBuffer(anomaly, "anomaly.nii");
    await viewer.loadFromArrayBuffer(await unpack("outlines"), "outlines.nii");
    await viewer.loadFromArrayBuffer(plain(anomaly), "opacity.nii");
    const opaque = (colours) => ({
      ...Object.fromEntries(["R", "G", "B"].map((name, part) => [name, colours.map((colour) => colour[part])])),
      A: colours.map((_, index) => (index ? 255 : 0)),
    });
    const evenly = settings.colours.map((_, index) => Math.round((255 * index) / (settings.colours.length - 1)));
    // NiiVue draws the smallest value above 0 in the colour of the second.
    const marks = [[0, 0, 0], [0, 0, 0], ...settings.marks, ...Array(254).fill([255, 255, 255])].slice(0, 256);
    viewer.addColormap("anomaly", { ...opaque(settings.colours), I: evenly });
    viewer.addColormap("outlines", { ...opaque(marks), I: marks.map((_, index) => index) });
    const [image, map, outlines, opacity] = viewer.volumes;
    Object.assign(image, { cal_min: settings.grey[0], cal_max: settings.grey[1] });
    // The colormap comes first: with it, NiiVue sets the range of the values again.
    Object.assign(map, { colormap: "anomaly", cal_min: low, cal_max: high, modulationImage: OPACITY, modulateAlpha: 1 });
    Object.assign(outlines, { colormap: "outlines", cal_min: 0, cal_max: 255 });
    Object.assign(opacity, { cal_min: 0, cal_max: 255, opacity: 0 });
    nv = viewer;
    connect();
    showWindow();
    drawMap();
    nv.onLocationChange = (place) => {
      if (!view && AXES[place.axCorSag] !== undefined) plane = place.axCorSag;
      moved();
    };
    nv.onIntensityChange = showWindow;
    toView(0);
    show(wanted || settings.points[0] || highest(map));
    state.hidden = true;
    home.dataset.ready = "true";
  }

  function highest(map) {
    let best = 0;
    for (let index = 0; index < map.img.length; index++) if (map.img[index] > map.img[best]) best = index;
    const [columns, rows] = [map.hdr.dims[1], map.hdr.dims[2]];
    const place = [best % columns, Math.floor(best / columns) % rows, Math.floor(best / columns / rows), 1];
    return map.hdr.affine.slice(0, 3).map((row) => row.reduce((sum, part, axis) => sum + part * place[axis], 0));
  }

  function missing() {
    if (!window.WebGL2RenderingContext || !document.createElement("canvas").getContext("webgl2")) return "WebGL 2";
    return window.DecompressionStream ? "" : "decompression of data";
  }

  const lacks = missing();
  if (lacks) {
    state.textContent = `This browser has no ${lacks}, which the viewer needs. The images of this page show the findings.`;
    return;
  }
  addEventListener("DOMContentLoaded", () => {
    for (const element of document.querySelectorAll("[data-ras]:not(a):not(button):not([tabindex])")) element.tabIndex = 0;
  });
  // The page's switch between RAS and LPS.
  document.addEventListener("zsad:space", () => {
    if (nv) moved();
  });
  state.textContent = "The viewer is starting.";
  // The page is drawn first.
  setTimeout(() => start().catch((error) => {
    home.querySelector(".viewer-body").hidden = true;
    state.hidden = false;
    state.textContent = "The viewer did not start. The images of this page show the findings.";
    console.error(error);
  }), 0);
})();
