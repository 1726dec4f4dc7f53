// Images explained one by one, unpacked when they are looked at.
(() => {
  const index = parsed("image-index");
  if (!index.length) return;
  const hex = parsed("settings").colours;
  const colours = Array.from({ length: hex.length / 6 }, (_, i) =>
    [0, 2, 4].map((j) => parseInt(hex.slice(6 * i + j, 6 * i + j + 2), 16)));
  const shade = (m) => colours[Math.min(colours.length - 1, Math.floor(m * colours.length))];
  const TINY = 1001;  // more than 0 and less than half a thousandth
  const state = { i: -1, data: null, maps: null, cell: null, call: 0 };
  const chosen = { layer: "", concept: "" };  // by name: images may have other layers

  const list = find("image-list");
  const entries = index.map((image, i) => {
    const item = make("li");
    const link = make("a", image.name);
    link.href = `#image-${i}`;
    link.append(make("span", `${image.best} (${image.probability}); `
      + `${image.findings} finding${image.findings === 1 ? "" : "s"}`, "muted"));
    item.append(link);
    return { item, link, text: `${image.name} ${image.best}`.toLowerCase() };
  });
  list.append(...entries.map((entry) => entry.item));

  const visible = () => entries.flatMap((entry, i) => (entry.item.hidden ? [] : [i]));
  const steps = () => {
    const shown = visible();
    const place = shown.indexOf(state.i);
    find("previous").disabled = !shown.length || place === 0;
    find("next").disabled = !shown.length || place === shown.length - 1;
    find("image-count").textContent = place < 0 ? `${shown.length} of ${index.length}`
      : `${place + 1} of ${shown.length}${shown.length < index.length ? ` found, ${index.length} in all` : ""}`;
  };
  find("find-image").addEventListener("input", (event) => {
    const sought = event.target.value.trim().toLowerCase();
    for (const entry of entries) entry.item.hidden = !entry.text.includes(sought);
    steps();
  });
  const step = (by) => {
    const shown = visible();
    const place = shown.indexOf(state.i);
    const to = place < 0 ? shown[0] : shown[place + by];
    if (to !== undefined) location.hash = `#image-${to}`;
  };
  find("previous").addEventListener("click", () => step(-1));
  find("next").addEventListener("click", () => step(1));

  const unpack = async (data) => {
    const bytes = Uint8Array.from(atob(data.maps), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const planes = new Uint8Array(await new Response(stream).arrayBuffer());
    const n = planes.length / 2;
    const values = new Uint16Array(n);
    for (let i = 0; i < n; i += 1) values[i] = planes[i] + 256 * planes[n + i];
    let start = 0;
    return data.shapes.map((shape) => data.concepts.map(() => {
      const [h, w] = shape.slice(-2);
      const d = shape.length > 2 ? shape[0] : 1;
      start += d * h * w;
      return { d, h, w, values: values.subarray(start - d * h * w, start) };
    }));
  };

  // -- slices of a volume: cut out of a sheet that holds them row by row
  const sheets = new Map();
  const loaded = async (source) => {
    if (!sheets.has(source)) {
      const image = new Image();
      image.src = source;
      await image.decode();
      sheets.set(source, image);
    }
    return sheets.get(source);
  };
  const cut = (source) => {
    const { data, slice } = state;
    if (!data.slices || !source) return source;
    const image = sheets.get(source);
    const width = image.width / data.columns;
    const height = image.height / Math.ceil(data.slices / data.columns);
    const canvas = make("canvas");
    canvas.width = width;
    canvas.height = height;
    canvas.getContext("2d").drawImage(image, -width * (slice % data.columns), -height * Math.floor(slice / data.columns));
    return canvas.toDataURL();
  };
  const inSlice = ({ d, h, w, values }) => {
    const z = state.data.slices ? Math.floor(((state.slice + 0.5) * d) / state.data.slices) : 0;
    return { z, values: values.subarray(z * h * w, (z + 1) * h * w) };
  };

  const trouble = (text) => {
    find("image-trouble").textContent = text;
    find("image-trouble").hidden = !text;
  };
  const fill = (select, names, wanted) => {
    select.replaceChildren(...names.map((name, i) => { const o = make("option", name); o.value = i; return o; }));
    select.value = Math.max(0, names.indexOf(wanted));
  };
  const place = (element, [left, top, right, bottom], view) => {
    // percentages of the stage, which holds the picture and the input's margin around it
    const [l, t, r, b] = view;
    element.style.left = `${(100 * (left - l)) / (r - l)}%`;
    element.style.top = `${(100 * (top - t)) / (b - t)}%`;
    element.style.width = `${(100 * (right - left)) / (r - l)}%`;
    element.style.height = `${(100 * (bottom - top)) / (b - t)}%`;
  };

  // the layer to read first for a concept: its rows there come first
  const best = (data, k) => data.rows.find((row) => row[1] === k)[0];
  // the first choice: the largest attribution there, if possible of the significant ones
  const telling = (data) => {
    const read = data.rows.filter((row) => row[0] === best(data, row[1]));
    const usable = read.filter((row) => row[10] === "significant" && row[11] !== "do not use");
    const rows = usable.length ? usable : read;
    return rows.reduce((most, row) => ((row[3] ?? -1) > (most[3] ?? -1) ? row : most));
  };

  const open = async (i) => {
    state.call += 1;
    const call = state.call;
    let data;
    let maps;
    try {
      data = parsed(`image-data-${i}`);
      maps = await unpack(data);
      sheets.clear();
      if (data.slices) {
        await Promise.all([data.picture, ...data.erased.flatMap((e) => [e.outline, e.filled])].filter(Boolean).map(loaded));
      }
    } catch (error) {
      trouble(`This browser cannot unpack the maps (${error.message}); one from 2023 or later can.`);
      return;
    }
    if (call !== state.call) return;  // another was asked for meanwhile
    trouble("");
    Object.assign(state, { i, data, maps, cell: null, slice: 0 });
    entries.forEach(({ link }, j) => (j === i ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
    // only the list scrolls, not the page
    const { offsetTop, offsetHeight } = entries[i].item;
    const above = offsetTop - list.offsetTop;
    const below = above + offsetHeight - list.clientHeight;
    if (above < list.scrollTop) list.scrollTop = above;
    else if (below > list.scrollTop) list.scrollTop = below;
    steps();
    const { name } = index[i];
    find("image-name").textContent = name;
    find("image-predictions").textContent = `The network predicts: ${data.predictions.map(([c, p]) => `${c} ${p}`).join(", ")}.`;
    const first = telling(data);
    fill(find("layer"), data.layers, data.layers.includes(chosen.layer) ? chosen.layer : data.layers[first[0]]);
    fill(find("concept"), data.concepts, data.concepts.includes(chosen.concept) ? chosen.concept : data.concepts[first[1]]);
    const view = [Math.min(0, data.box[0]), Math.min(0, data.box[1]), Math.max(1, data.box[2]), Math.max(1, data.box[3])];
    const ratio = ((view[2] - view[0]) * data.size[0]) / ((view[3] - view[1]) * data.size[1]);
    const framed = data.box.some((x, k) => Math.abs(x - [0, 0, 1, 1][k]) > 1e-6);
    for (const stage of all(".stage")) {
      stage.style.aspectRatio = String(ratio);
      const photo = stage.querySelector(".photo");
      if (!data.slices) photo.src = data.picture;
      place(photo, [0, 0, 1, 1], view);
      const frame = stage.querySelector(".frame");
      frame.hidden = !framed;
      place(frame, data.box, view);
    }
    find("original").querySelector("img").alt = `The image ${name}`;
    state.framed = framed;
    place(find("overlay").querySelector(".map"), data.box, view);
    for (const erased of all(".stage .erased")) place(erased, data.box, view);
    find("without").hidden = !data.erased.length;
    state.view = view;
    find("image-findings").replaceChildren(...data.findings.map((text) => make("li", text)));
    table();
    find("slices").hidden = !data.slices;
    find("slice-help").hidden = !data.slices;
    find("slice").max = Math.max(0, (data.slices ?? 1) - 1);
    strongest();
    find("image").hidden = false;
  };

  const stood = { "significant": "◆", "not significant": "○", "not tested": "□" };
  const table = () => {
    const { data } = state;
    const body = find("image-table").querySelector("tbody");
    body.replaceChildren(...data.rows.map((row) => {
      const [l, k, c, , text, , , range, random, q, verdict, level, note, reached, presence] = row;
      const line = make("tr");
      const head = make("th", data.layers[l]);
      head.scope = "row";
      line.append(head, ...[data.concepts[k], data.classes[c], text, range || "–", random, q,
        `${stood[verdict] ?? "✕"} ${verdict}`, level, presence, note].map((cell) => make("td", cell)));
      return line;
    }));
  };

  const shown = (m) => {
    if (m === TINY) return "<0.001";
    return m === 0 ? "0" : (m / 1000).toFixed(3);
  };

  // the slice at which the map is highest
  const strongest = () => {
    const { data } = state;
    to(data.slices ? data.strongest[Number(find("layer").value)][Number(find("concept").value)] : 0);
  };
  const to = (slice) => {
    const { data } = state;
    state.slice = Math.min(Math.max(slice, 0), (data.slices ?? 1) - 1);
    if (data.slices) {
      find("slice").value = state.slice;
      find("slice-value").textContent = `${state.slice} of 0 to ${data.slices - 1}`;
      const source = cut(data.picture);
      for (const photo of all(".stage .photo")) photo.src = source;
    }
    show();
  };

  const show = () => {
    const { data, maps } = state;
    const l = Number(find("layer").value);
    const k = Number(find("concept").value);
    const { d, h, w } = maps[l][k];
    const { z, values } = inSlice(maps[l][k]);
    const rows = data.rows.filter((row) => row[0] === l && row[1] === k);
    const separated = rows.every((row) => row[10] !== "not separated");
    const canvas = find("overlay").querySelector(".map");
    canvas.width = w;
    canvas.height = h;
    const pixels = new ImageData(w, h);
    values.forEach((m, i) => pixels.data.set([...shade(m === TINY ? 0 : m / 1000), 255], 4 * i));
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    canvas.hidden = !separated;
    find("overlay").querySelector(".no-map").hidden = separated;
    const [layer, concept] = [data.layers[l], data.concepts[k]];
    const most = data.largest[l][k];
    const inVolume = data.slices ? `slice ${state.slice} of 0 to ${data.slices - 1}, ` : "";
    find("overlay").setAttribute("aria-label", `Map of ${concept} at layer ${layer}: ${inVolume}${h} rows by ${w} columns, largest M ${most}`);
    find("overlay").querySelector("img").alt = "";
    find("map-caption").textContent = separated
      ? `Where ${layer} sees “${concept}”: ${data.slices ? `${d} × ` : ""}${h} × ${w} cells, largest M = ${most}.${
        data.slices ? ` Slice ${state.slice} lies in slice ${z} of 0 to ${d - 1} of the map; largest M there: ${shown(values.reduce((a, b) => (b % TINY > a % TINY ? b : a)))}.` : ""}`
      : `${layer} does not separate “${concept}” from its negatives (e+ ≤ e-): there is no map.`;
    state.map = separated ? { h, w, values } : null;
    state.cell = null;
    point(null);
    const { outline = "", filled = "", text = "" } = data.erased[k] ?? {};
    for (const [id, source] of [["outline", outline], ["filled", filled]]) {
      find(id).hidden = !source;
      if (source) find(id).src = cut(source);
    }
    find("without-caption").textContent = text;
    const about = [data.slices && `slice ${state.slice} of 0 to ${data.slices - 1}`, outline && `the region of “${data.concepts[k]}” is outlined`, state.framed && "the frame is what the network saw"].filter(Boolean);
    find("original-caption").textContent = `The image${about.length ? `; ${about.join("; ")}` : ""}.`;
    find("without").querySelector(".photo").alt = text;
    bars(rows, layer, concept);
    fade();
  };

  const bars = (rows, layer, concept) => {
    const { data } = state;
    const top = Math.max(1e-3, ...data.rows.flatMap((row) => [row[3] ?? 0, row[6] ?? 0]));
    const x = (value) => 8 + 304 * Math.min(Math.max(value / top, 0), 1);
    find("bars-title").textContent = `How much “${concept}” at layer ${layer} counts for each class`;
    find("bars").replaceChildren(...rows.map((row) => {
      const [, , c, value, text, low, high, range, random, q, verdict, level, note, reached] = row;
      const item = make("li");
      item.append(make("span", data.classes[c], "name"), make("span", `${text} ${stood[verdict] ?? "✕"} ${verdict}`, "number"));
      const about = q === "–" ? [] : [`${reached} (q = ${q})`, `random directions get ${random} on average`];
      if (range) about.unshift(`for other examples ${range}`);
      if (level !== "fine") about.push(`diagnostics: ${level}`);
      if (note) about.push(note);
      else if (!about.length) about.push(reached);
      const svg = drawn("svg", { viewBox: "0 0 320 16", role: "img", "aria-label": `${data.classes[c]}: ${text}, ${verdict}` });
      svg.append(drawn("rect", { class: "track", x: 8, y: 2, width: 304, height: 12 }));
      if (value > 0) svg.append(drawn("rect", { class: verdict === "significant" ? "bar" : "bar no", x: 8, y: 3, width: Math.max(x(value) - 8, 1), height: 10 }));
      if (low !== null && high !== null) svg.append(drawn("path", { class: "ci", d: `M${x(low)} 8H${x(high)}M${x(low)} 4v8M${x(high)} 4v8` }));
      item.append(svg, make("span", `${about.join("; ")}.`, "more muted"));
      return item;
    }));
  };

  // -- one cell, by pointer or by keyboard
  const overlay = find("overlay");
  const point = (cell) => {
    const mark = overlay.querySelector(".cell");
    state.cell = cell;
    mark.hidden = !cell || !state.map;
    if (!cell || !state.map) {
      find("map-value").textContent = "";
      return;
    }
    const { h, w, values } = state.map;
    const { box } = state.data;
    const [row, column] = cell;
    const [sx, sy] = [(box[2] - box[0]) / w, (box[3] - box[1]) / h];
    place(mark, [box[0] + column * sx, box[1] + row * sy, box[0] + (column + 1) * sx, box[1] + (row + 1) * sy], state.view);
    const m = shown(values[row * w + column]);
    find("map-value").textContent = `M ${m.startsWith("<") ? m.replace("<", "< ") : `= ${m}`} (row ${row + 1}, column ${column + 1})`;
  };
  const under = (event) => {
    if (!state.map) return null;
    const area = overlay.querySelector(".map").getBoundingClientRect();
    const column = Math.floor(((event.clientX - area.left) / area.width) * state.map.w);
    const row = Math.floor(((event.clientY - area.top) / area.height) * state.map.h);
    return row >= 0 && column >= 0 && row < state.map.h && column < state.map.w ? [row, column] : null;
  };
  overlay.addEventListener("pointermove", (event) => point(under(event)));
  overlay.addEventListener("pointerdown", (event) => point(under(event)));
  overlay.addEventListener("pointerleave", () => { if (document.activeElement !== overlay) point(null); });
  overlay.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (state.data.slices && ["PageUp", "PageDown"].includes(event.key)) {
      event.preventDefault();
      const { cell } = state;
      to(state.slice + (event.key === "PageUp" ? 1 : -1));
      point(cell);
      return;
    }
    if (!state.map) return;
    const { h, w } = state.map;
    if (event.key === "Escape") { point(null); return; }
    let goal;
    if (event.key === "Home") goal = [0, 0];
    else if (event.key === "End") goal = [h - 1, w - 1];
    else if (event.key === "m" || event.key === "M") {
      if (state.data.slices) strongest();
      const { values } = state.map;
      let best = 0;
      values.forEach((m, i) => { if (m % TINY > values[best] % TINY) best = i; });
      goal = [Math.floor(best / w), best % w];
    } else if (moves[event.key]) {
      const [row, column] = state.cell ?? [Math.floor(h / 2) - moves[event.key][0], Math.floor(w / 2) - moves[event.key][1]];
      goal = [row + moves[event.key][0], column + moves[event.key][1]];
    } else return;
    event.preventDefault();
    point([Math.min(Math.max(goal[0], 0), h - 1), Math.min(Math.max(goal[1], 0), w - 1)]);
  });

  const fade = () => {
    const opacity = find("opacity").value;
    overlay.querySelector(".map").style.opacity = String(opacity / 100);
    find("opacity-value").textContent = `${opacity} %`;
    overlay.querySelector(".photo").classList.toggle("grey", find("grey").checked);
  };
  find("opacity").addEventListener("input", fade);
  find("grey").addEventListener("change", fade);
  find("layer").addEventListener("change", (event) => { chosen.layer = state.data.layers[event.target.value]; show(); });
  find("concept").addEventListener("change", (event) => {
    chosen.concept = state.data.concepts[event.target.value];
    if (!chosen.layer) find("layer").value = best(state.data, Number(event.target.value));
    strongest();
  });
  find("slice").addEventListener("input", (event) => to(Number(event.target.value)));
  find("strongest").addEventListener("click", strongest);

  const scale = find("scale").getContext("2d");
  colours.forEach(([r, g, b], i) => { scale.fillStyle = `rgb(${r} ${g} ${b})`; scale.fillRect(i, 0, 1, 1); });

  const route = (focus) => {
    const found = /^#image-(\d+)$/.exec(location.hash);
    const i = found && Number(found[1]) < index.length ? Number(found[1]) : null;
    if (i === null) return false;
    open(i).then(() => {
      if (!focus) return;
      find("images").scrollIntoView();
      if (!find("image").contains(document.activeElement) && !document.activeElement.closest(".picker")) find("image-name").focus({ preventScroll: true });
    });
    return true;
  };
  addEventListener("hashchange", () => route(true));
  if (!route(false)) open(0);
})();
