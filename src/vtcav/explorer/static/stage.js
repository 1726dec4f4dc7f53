// The photo with its map: drawing, the value under the pointer, and cutting patches.
import { address, count, find, inputAddress, make, value } from "./core.js";
import { concept, editable, state } from "./state.js";

let colours = [];
const shade = (m) => colours[Math.min(colours.length - 1, Math.floor(m * colours.length))];
const panes = [];
let onCut = () => {};
let onSmall = () => {};

export const start = (hex, cut, small) => {
  colours = Array.from({ length: hex.length / 6 }, (_, i) =>
    [0, 2, 4].map((j) => parseInt(hex.slice(6 * i + j, 6 * i + j + 2), 16)));
  const scale = find("scale").getContext("2d");
  colours.forEach(([r, g, b], i) => { scale.fillStyle = `rgb(${r} ${g} ${b})`; scale.fillRect(i, 0, 1, 1); });
  onCut = cut;
  onSmall = small;
};

export const unpack = (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
};

export const place = (element, [left, top, right, bottom], [l, t, r, b]) => {
  element.style.left = `${(100 * (left - l)) / (r - l)}%`;
  element.style.top = `${(100 * (top - t)) / (b - t)}%`;
  element.style.width = `${(100 * (right - left)) / (r - l)}%`;
  element.style.height = `${(100 * (bottom - top)) / (b - t)}%`;
};

const pane = () => {
  const figure = make("figure", "", "pane");
  const stage = make("div", "", "stage");
  stage.tabIndex = 0;
  stage.setAttribute("role", "application");
  stage.setAttribute("aria-roledescription", "photo with map");
  const parts = { figure, stage, found: null, cell: null, cutting: null, keyBox: null };
  const layers = [["photo", "img"], ["map", "canvas"], ["frame", "div"], ["patches", "div"], ["mark", "div", "cell"], ["cutBox", "div", "cutting"], ["noMap", "p", "no-map"]];
  for (const [part, tag, name = part] of layers) {
    parts[part] = make(tag, "", name);
    stage.append(parts[part]);
  }
  parts.photo.alt = "";
  parts.photo.draggable = false;
  parts.patches.style.inset = "0";
  parts.mark.hidden = true;
  parts.cutBox.hidden = true;
  parts.caption = make("figcaption");
  figure.append(stage, parts.caption);
  listen(parts);
  return parts;
};

const wanted = () => (state.compare !== null ? [state.selected, state.compare] : [state.selected]);

export const paint = () => {
  const ids = wanted();
  while (panes.length < ids.length) panes.push(pane());
  const figures = panes.slice(0, ids.length).map((p) => p.figure);
  if (find("stages").children.length !== figures.length) find("stages").replaceChildren(...figures);
  ids.forEach((id, i) => paintPane(panes[i], id));
  fade();
  if (!panes.some((p) => p.cutting || p.keyBox)) pointAll(panes[0].cell);
};

const paintPane = (p, id) => {
  const info = state.pictures.get(state.picture);
  const look = state.looks.get(state.picture);
  if (!info) return;
  const box = look?.box ?? [0, 0, 1, 1];
  // where the location of the input on the photo is unknown, the map is shown on the input alone
  const apart = Boolean(look?.input);
  const asInput = apart && state.tool === "look";
  const [wide, high] = asInput ? look.input : [info.width, info.height];
  p.box = box;
  p.info = info;
  p.view = [Math.min(0, box[0]), Math.min(0, box[1]), Math.max(1, box[2]), Math.max(1, box[3])];
  const ratio = ((p.view[2] - p.view[0]) * wide) / ((p.view[3] - p.view[1]) * high);
  p.stage.style.aspectRatio = String(ratio);
  p.stage.style.maxWidth = `${70 * ratio}vh`;
  p.stage.dataset.tool = state.tool;
  const source = asInput ? inputAddress(state.picture) : address(state.picture);
  if (p.source !== source) { p.source = source; p.photo.src = source; }
  place(p.photo, [0, 0, 1, 1], p.view);
  p.frame.hidden = !look || box.every((x, k) => Math.abs(x - [0, 0, 1, 1][k]) < 1e-6);
  place(p.frame, box, p.view);
  const c = concept(id);
  paintPatches(p, c);
  const found = state.results.get(id);
  const fits = found && found.picture === state.picture && found.layer === state.layer;
  p.found = fits && found.separated && (!apart || asInput) ? found : null;
  p.map.hidden = !p.found;
  p.patches.hidden = asInput;
  const empty = !c || (c.id !== undefined && !c.examples.length);
  p.noMap.hidden = Boolean(p.found) || state.tool === "erase" || !(empty || (fits && !found.separated));
  p.noMap.textContent = empty ? "No examples yet: cut one out" : "No map: this layer does not separate the examples from the counter-examples";
  p.stage.setAttribute("aria-label", `The photo ${info.name}. ${p.found
    ? `Map of ${c.name} at layer ${state.layer}: ${found.height} rows by ${found.width} columns, largest value ${value(Math.max(...found.values))}.`
    : "No map."} Arrow keys move over it.`);
  const elsewhere = fits && found.separated && apart && !asInput ? " (the map is shown with “Look”, on the network’s input)" : "";
  const largest = p.found ? `, largest M = ${value(Math.max(...found.values))}` : "";
  p.caption.textContent = c ? `${c.name}${largest}${elsewhere}` : "";
  if (p.found) paintMap(p);
  else if (fits && !found.separated) p.caption.textContent = `${c.name}: not separated at layer ${state.layer}`;
  point(p, p.cell);
};

export const drawMap = (canvas, { width, height, values }) => {
  canvas.width = width;
  canvas.height = height;
  const pixels = new ImageData(width, height);
  values.forEach((m, i) => pixels.data.set([...shade(m), 255], 4 * i));
  canvas.getContext("2d").putImageData(pixels, 0, 0);
};

const paintMap = (p) => {
  if (p.painted !== p.found) {
    drawMap(p.map, p.found);
    p.painted = p.found;
  }
  place(p.map, p.box, p.view);
};

const paintPatches = (p, c) => {
  const marks = [];
  for (const kind of ["examples", "negatives"]) {
    (c?.[kind] instanceof Array ? c[kind] : []).forEach((example, i) => {
      if (example.picture !== state.picture || !example.box) return;
      const mark = make("div", "", `patch ${kind}`);
      mark.style.position = "absolute";
      mark.append(make("b", `${kind === "examples" ? "+" : "−"}${i + 1}`));
      place(mark, shares(example.box, p.info), p.view);
      marks.push(mark);
    });
  }
  if (state.erased?.picture === state.picture) {
    const mark = make("div", "", "patch erase");
    mark.style.position = "absolute";
    mark.append(make("b", "×"));
    place(mark, shares(state.erased.box, p.info), p.view);
    marks.push(mark);
  }
  p.patches.replaceChildren(...marks);
};

export const shares = ([l, t, r, b], { width, height }) => [l / width, t / height, r / width, b / height];

export const fade = () => {
  const opacity = find("opacity").value;
  find("opacity-value").textContent = `${opacity} %`;
  for (const p of panes) {
    p.map.style.opacity = String(opacity / 100);
    p.photo.classList.toggle("grey", find("grey").checked && Boolean(p.found) && state.tool === "look");
  }
};

// -- one cell, in all panes at once
const point = (p, cell) => {
  p.cell = cell;
  const { mark } = p;
  mark.hidden = !cell || !p.found;
  if (!cell || !p.found) return "";
  const { width, height, values } = p.found;
  const row = Math.min(cell[0], height - 1);
  const column = Math.min(cell[1], width - 1);
  const [sx, sy] = [(p.box[2] - p.box[0]) / width, (p.box[3] - p.box[1]) / height];
  place(mark, [p.box[0] + column * sx, p.box[1] + row * sy, p.box[0] + (column + 1) * sx, p.box[1] + (row + 1) * sy], p.view);
  const m = value(values[row * width + column]);
  return `M ${m.startsWith("<") ? m.replace("<", "< ") : `= ${m}`} (row ${row + 1}, column ${column + 1})`;
};
const pointAll = (cell) => {
  const values = wanted().map((id, i) => [concept(id)?.name ?? "", point(panes[i], cell)]).filter(([, text]) => text);
  find("value").textContent = values.map(([name, text]) => (values.length > 1 ? `${name}: ${text}` : text)).join("; ") || "\u00a0";
};

const under = (p, event) => {
  if (!p.found) return null;
  const area = p.map.getBoundingClientRect();
  const column = Math.floor(((event.clientX - area.left) / area.width) * p.found.width);
  const row = Math.floor(((event.clientY - area.top) / area.height) * p.found.height);
  return row >= 0 && column >= 0 && row < p.found.height && column < p.found.width ? [row, column] : null;
};

// -- cutting: in pixels of the photo
const pixel = (p, event) => {
  const area = p.photo.getBoundingClientRect();
  const x = ((event.clientX - area.left) / area.width) * p.info.width;
  const y = ((event.clientY - area.top) / area.height) * p.info.height;
  return [Math.min(Math.max(x, 0), p.info.width), Math.min(Math.max(y, 0), p.info.height)];
};
const boxOf = ([x, y], [u, v]) => [Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v)].map(Math.round);
const showCut = (p, box) => {
  p.cutBox.hidden = !box;
  if (!box) return;
  p.cutBox.className = `cutting ${state.tool}`;
  place(p.cutBox, shares(box, p.info), p.view);
  find("value").textContent = `${box[2] - box[0]} × ${box[3] - box[1]} pixels`;
};
const finish = (p, box) => {
  showCut(p, null);
  p.keyBox = null;
  const least = state.about.limits.side;
  if (Math.min(box[2] - box[0], box[3] - box[1]) < least) onSmall(least);
  else onCut(state.tool, { picture: state.picture, box });
};

const listen = (p) => {
  const { stage } = p;
  stage.addEventListener("pointerdown", (event) => {
    if (state.tool === "look" || event.button !== 0) return;
    stage.setPointerCapture(event.pointerId);
    p.cutting = pixel(p, event);
    p.keyBox = null;
  });
  stage.addEventListener("pointermove", (event) => {
    if (p.cutting) showCut(p, boxOf(p.cutting, pixel(p, event)));
    else pointAll(under(p, event));
  });
  stage.addEventListener("pointerup", (event) => {
    if (!p.cutting) return;
    const box = boxOf(p.cutting, pixel(p, event));
    p.cutting = null;
    finish(p, box);
  });
  stage.addEventListener("pointercancel", () => { p.cutting = null; showCut(p, null); });
  stage.addEventListener("pointerleave", () => { if (!p.cutting && document.activeElement !== stage) pointAll(null); });
  stage.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") { p.cutting = null; p.keyBox = null; showCut(p, null); pointAll(null); return; }
    if (state.tool === "look" ? step(p, event) : stepCut(p, event)) event.preventDefault();
  });
};

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const step = (p, event) => {
  if (!p.found) return false;
  const { height: h, width: w, values } = p.found;
  let to;
  if (event.key === "Home") to = [0, 0];
  else if (event.key === "End") to = [h - 1, w - 1];
  else if (event.key.toLowerCase() === "m") {
    const best = values.indexOf(Math.max(...values));
    to = [Math.floor(best / w), best % w];
  } else if (MOVES[event.key]) {
    const [dy, dx] = MOVES[event.key];
    const [row, column] = p.cell ?? [Math.floor(h / 2) - dy, Math.floor(w / 2) - dx];
    to = [row + dy, column + dx];
  } else return false;
  pointAll([Math.min(Math.max(to[0], 0), h - 1), Math.min(Math.max(to[1], 0), w - 1)]);
  return true;
};

// arrows move the rectangle, with Shift they resize it, Enter cuts
const stepCut = (p, event) => {
  const { width, height } = p.info;
  if (event.key === "Enter" || event.key === " ") {
    if (p.keyBox) finish(p, p.keyBox);
    else showKeyBox(p);
    return true;
  }
  if (!MOVES[event.key]) return false;
  if (!p.keyBox) { showKeyBox(p); return true; }
  const [dy, dx] = MOVES[event.key];
  const unit = Math.max(1, Math.round(Math.min(width, height) / 32));
  let [l, t, r, b] = p.keyBox;
  if (event.shiftKey) {
    r = Math.min(Math.max(r + dx * unit, l + unit), width);
    b = Math.min(Math.max(b + dy * unit, t + unit), height);
  } else {
    const mx = Math.min(Math.max(dx * unit, -l), width - r);
    const my = Math.min(Math.max(dy * unit, -t), height - b);
    [l, t, r, b] = [l + mx, t + my, r + mx, b + my];
  }
  p.keyBox = [l, t, r, b];
  showCut(p, p.keyBox);
  return true;
};
const showKeyBox = (p) => {
  const { width, height } = p.info;
  const side = Math.round(Math.min(width, height) / 4);
  const [l, t] = [Math.round((width - side) / 2), Math.round((height - side) / 2)];
  p.keyBox = [l, t, l + side, t + side];
  showCut(p, p.keyBox);
};

export const hint = () => {
  const c = editable();
  if (state.tool !== "look") {
    const what = { examples: "around what you mean", negatives: "around something that you do not mean", erase: "over what the network is to do without" }[state.tool];
    return `Drag a rectangle ${what}. By keyboard, on the photo: arrows move, Shift and arrows resize, Enter ${state.tool === "erase" ? "erases" : "cuts"}.`;
  }
  if (c && !c.examples.length) return "Next: choose “Cut example” and drag a rectangle around what you mean.";
  if (c && c.examples.length < 3) return `Next: ${count(3 - c.examples.length, "more example")} would make the map much more stable.`;
  return "Point at the map to read its values, or focus it and use the arrow keys. M jumps to its largest value.";
};
