// What discovery finds in the photos, as tiles, and the photos in the order of a concept.
import { address, all, count, find, fixed, get, keep, make, recall, send, Trouble, value } from "./core.js";
import { button, LEVELS } from "./panels.js";
import { drawMap, place, shares, unpack } from "./stage.js";
import { change, concept, editable, fresh, nameTrouble, selected, spec, state } from "./state.js";

const page = crypto.randomUUID().slice(0, 16);
const FEW = 8; // patches of a tile
const STEP = 12; // photos of the order that are shown at a time
let acts = {}; // of the page: after, choose, openPhoto
const photos = () => [...state.pictures.values()].filter((p) => p.origin !== "concept");
const percent = (share) => `${Math.round(100 * share)} %`;

// -- tiles

const finding = () => state.found.get(state.layer);
const tileOf = (key) => [...state.found.values()].flatMap((f) => f.tiles).find((t) => t.key === key);
const owner = (tile) => state.concepts.find((c) => c.found.includes(tile.key));
const merged = (tile) => finding().tiles.filter((t) => state.tiles[t.key] === tile.key);
const here = (examples) => examples.filter((e) => state.pictures.has(e.picture));
const sameExample = (a) => (b) => JSON.stringify(a) === JSON.stringify(b);
const free = (tile) => !(tile.key in state.tiles) && !owner(tile);

// patches of a tile and of those merged into it, in turn
const patchesOf = (tile) => {
  const lists = [tile, ...merged(tile)].map((t) => here(t.examples));
  const longest = Math.max(...lists.map((list) => list.length));
  return Array.from({ length: longest }, (_, i) => lists.flatMap((list) => list.slice(i, i + 1))).flat();
};
const absent = (tiles, examples) => {
  const shown = new Set(examples.map((e) => e.picture));
  const all_ = tiles.flatMap((t) => here(t.negatives)).filter((e) => !shown.has(e.picture));
  return all_.filter((e, i) => all_.findIndex(sameExample(e)) === i);
};

const focusTile = (key, selector = "button, input") => find(`tile-${key}`)?.querySelector(selector)?.focus();
const said = (text) => { find("find-said").textContent = text; };

const name = (tile, text) => {
  const trouble = find(`tile-${tile.key}`).querySelector(".trouble");
  trouble.textContent = nameTrouble(text);
  trouble.hidden = !trouble.textContent;
  if (!trouble.hidden) return;
  const tiles = [tile, ...merged(tile)];
  const made = change(() => {
    const c = fresh(text);
    c.examples = patchesOf(tile);
    c.negatives = absent(tiles, c.examples);
    c.shared = false;
    c.found = tiles.map((t) => t.key);
    state.concepts.push(c);
    state.selected = c.id;
  });
  find("ranking").open = true;
  acts.after(made);
  said(`Thing ${tile.number} is the concept “${text}” now. It is selected, and your photos are put in order by it below.`);
  focusTile(tile.key);
};

const throwAway = (tile) => {
  acts.after(change(() => {
    for (const t of merged(tile)) delete state.tiles[t.key];
    state.tiles[tile.key] = "";
  }));
  said(`Thing ${tile.number} is thrown away.`);
  focusTile(tile.key);
};

const putBack = (tile) => {
  acts.after(change(() => { delete state.tiles[tile.key]; }));
  said(`Thing ${tile.number} is back.`);
  focusTile(tile.key);
};

const merge = (tile, into) => {
  const target = tileOf(into);
  const c = target ? null : concept(into);
  if (!target && !c) return;
  const tiles = [tile, ...merged(tile)];
  acts.after(change(() => {
    if (target) {
      for (const t of tiles) state.tiles[t.key] = target.key;
      return;
    }
    const more = tiles.flatMap((t) => here(t.examples));
    c.examples.push(...more.filter((e) => !c.examples.some(sameExample(e))));
    c.negatives = absent([{ negatives: c.negatives }, ...tiles], c.examples);
    c.found.push(...tiles.map((t) => t.key));
    state.selected = c.id;
  }));
  said(`Thing ${tile.number} is merged into ${target ? `thing ${target.number}` : `“${c.name}”`}.`);
  focusTile(tile.key);
};

const slim = (item, text, ...buttons) => {
  const row = make("div", "", "row");
  row.append(make("p", text), ...buttons);
  item.classList.add("slim");
  item.append(row);
  return item;
};

// the named concept that is the closest to each tile, by its key: told by the program
let nearest = {};
let compared = "";
let comparing = 0;
const nearestText = (tile) => {
  const near = nearest[tile.key];
  return near
    ? `Nearest concept: “${near.name}”, cosine ${fixed(near.cosine)}, AUC ${fixed(near.auc)}.`
    : "";
};
const compare = () => {
  const concepts = state.concepts.filter((c) => c.examples.length).map(spec);
  const { layer } = state;
  const asked = JSON.stringify([layer, finding()?.tiles[0]?.key, concepts]);
  if (!finding() || asked === compared) return;
  compared = asked;
  comparing += 1;
  const mine = comparing;
  setTimeout(async () => { // whoever goes on cutting need not wait for it
    if (mine !== comparing) return;
    try {
      ({ nearest } = await send("api/nearest", { layer, concepts, page, number: mine }));
    } catch (error) {
      if (!(error instanceof Trouble)) throw error;
      if (mine !== comparing) return;
      nearest = {};
    }
    for (const tile of finding()?.tiles ?? []) {
      const near = find(`tile-${tile.key}`)?.querySelector(".nearest");
      if (near) { near.textContent = nearestText(tile); near.hidden = !near.textContent; }
    }
  }, 600);
};

const paintTile = (tile) => {
  const item = make("li", "", "tile");
  item.id = `tile-${tile.key}`;
  const title = `Thing ${tile.number}`;
  const mark = state.tiles[tile.key];
  if (mark === "") return slim(item, `${title}: thrown away`, button("Put back", `Put back ${title.toLowerCase()}`, () => putBack(tile)));
  if (mark !== undefined) {
    return slim(item, `${title}: merged into thing ${tileOf(mark)?.number ?? "?"}`, button("Separate", `Separate ${title.toLowerCase()}`, () => putBack(tile)));
  }
  const c = owner(tile);
  const head = make("div", "", "row");
  const [kind, sign] = LEVELS[tile.level] ?? ["unknown", "?"];
  head.append(make("h3", c ? `${title}: ${c.name}` : title), make("span", `${sign} ${tile.level}`, `level ${kind}`));
  const patches = patchesOf(tile);
  const shown = make("div", "", "patches");
  shown.append(...patches.slice(0, FEW).map((example, i) => {
    const image = make("img");
    image.src = address(example.picture, { size: 144, box: example.box });
    image.alt = `Patch ${i + 1} of ${title.toLowerCase()}, from ${state.pictures.get(example.picture).name}`;
    image.loading = "lazy";
    return image;
  }));
  const others = merged(tile).map((t) => t.number);
  const about = [`in ${percent(tile.prevalence)} of the photos`, `stability ${fixed(tile.stability)}`];
  if (others.length) about.push(`with thing ${others.join(", ")}`);
  const near = make("p", nearestText(tile), "muted nearest");
  near.hidden = !near.textContent;
  item.append(head, shown, make("p", `${about.join("; ")}.`, "muted"), near);
  if (tile.note) item.append(make("p", `${tile.note[0].toUpperCase()}${tile.note.slice(1)}.`, "few"));
  if (c) {
    item.append(button("Show", `Show the concept ${c.name}`, () => { find("ranking").open = true; acts.choose(c.id); }));
    return item;
  }
  if (patches.length) item.append(naming(tile, title), merging(tile, title));
  return item;
};

const naming = (tile, title) => {
  const form = make("form");
  const row = make("div", "", "bar small");
  const label = make("label", "", "wide");
  const input = make("input");
  input.type = "text";
  input.maxLength = 80;
  input.autocomplete = "off";
  input.placeholder = "a name for it";
  label.append(make("span", `Name of ${title.toLowerCase()}`, "hidden"), input);
  const submit = make("button", "Name it");
  submit.setAttribute("aria-label", `Name ${title.toLowerCase()}`);
  row.append(label, submit);
  const trouble = make("p", "", "trouble");
  trouble.setAttribute("role", "alert");
  trouble.hidden = true;
  form.append(row, trouble);
  form.addEventListener("submit", (event) => { event.preventDefault(); name(tile, input.value.trim()); });
  return form;
};

const merging = (tile, title) => {
  const row = make("div", "", "bar small");
  const others = finding().tiles.filter((t) => t.key !== tile.key && free(t)).map((t) => [t.key, `thing ${t.number}`]);
  others.push(...state.concepts.filter((c) => c.found.length).map((c) => [c.id, c.name]));
  if (others.length) {
    const label = make("label");
    const select = make("select");
    for (const [key, text] of others) {
      const option = make("option", text);
      option.value = key;
      select.append(option);
    }
    label.append(make("span", `Merge ${title.toLowerCase()} into`, "hidden"), select);
    row.append(button("Merge into", `Merge ${title.toLowerCase()} into the one that is chosen`, () => merge(tile, select.value)), label);
  }
  row.append(button("Throw away", `Throw away ${title.toLowerCase()}`, () => throwAway(tile)));
  return row;
};

let looking = "";
let searching = null;
export const paintFound = () => {
  const { length } = photos();
  const { found: fewest } = state.about.limits;
  const enough = length >= fewest;
  find("find").disabled = !enough || Boolean(looking);
  const again = finding() ? "Find again" : "Find";
  find("find").textContent = `${again} what layer ${state.layer} sees in these ${count(length, "photo")}`;
  find("find-few").hidden = enough;
  find("find-few").textContent = `Add ${count(fewest - length, "more photo")}: a few dozen are better.`;
  const others = [...state.found.keys()].filter((layer) => layer !== state.layer);
  find("find-others").replaceChildren(...others.map((layer) => button(`Found at layer ${layer}`, "", () => acts.layer(layer))));
  const tiles = finding()?.tiles ?? [];
  // what is being typed stays
  const typed = new Map(all("#tiles input").map((input) => [input.closest("li").id, input.value]));
  const focused = document.activeElement?.closest?.("#tiles li")?.id;
  const typing = document.activeElement?.matches?.("#tiles input");
  find("tiles").replaceChildren(...tiles.map(paintTile));
  for (const [id, text] of typed) {
    const input = document.getElementById(id)?.querySelector("input");
    if (input) input.value = text;
  }
  if (focused) document.getElementById(focused)?.querySelector(typing ? "input" : "button, input")?.focus();
  find("tiles").hidden = !tiles.length;
  const skipped = finding()?.skipped ?? [];
  find("find-skipped").hidden = !skipped.length;
  find("find-skipped").textContent = `Left out: ${skipped.join("; ")}`;
  find("find-stop").hidden = !looking;
  compare();
};

const discover = async () => {
  looking = state.layer;
  find("find-trouble").hidden = true;
  paintFound();
  said("Looking…");
  const begun = performance.now();
  const number = Math.round(begun);
  searching = new AbortController();
  const { signal } = searching;
  const asking = send("api/discover", { layer: looking, page, number }, "POST", signal);
  // the program is told too, as it would go on looking
  signal.addEventListener("abort", () => send("api/stop", { page, number }).catch(() => {}));
  find("find-stop").focus();
  const watching = setInterval(async () => {
    let p;
    try { p = await get("api/progress"); } catch { return; }
    if (!looking) return;
    const what = p.what ? `${p.what[0].toUpperCase()}${p.what.slice(1)}` : "Working";
    const text = p.total ? `${what}: ${p.done} of ${p.total}…` : `${what}…`;
    if (find("find-said").textContent !== text) said(text);
    find("find-time").textContent = ` ${Math.round((performance.now() - begun) / 1000)} s`;
  }, 500);
  try {
    const answer = await asking;
    state.found.set(answer.layer, answer);
    const fine = answer.tiles.filter((t) => t.level === "fine").length;
    said(`${count(answer.tiles.length, "thing")} found at layer ${answer.layer} in ${count(answer.photos, "photo")}, ${fine} of them without a flag, in ${((performance.now() - begun) / 1000).toFixed(0)} s.`);
  } catch (error) {
    said(error.name === "AbortError" ? "Stopped: nothing was changed." : "");
    if (error.name === "AbortError" || error.answer?.superseded) return;
    if (!(error instanceof Trouble)) throw error;
    find("find-trouble").hidden = false;
    find("find-trouble").textContent = error.message;
  } finally {
    clearInterval(watching);
    const held = document.activeElement === find("find-stop");
    looking = "";
    find("find-time").textContent = "";
    paintFound();
    if (held) find("find").focus();
  }
};

// -- the photos in order

let ordering = null;
let orders = 0;
let most = STEP;
let order = null;
let marked = null; // the photo that was marked last, until it is said where it stands now

export const rank = async () => {
  ordering?.abort();
  orders += 1;
  const mine = orders;
  const c = selected();
  const able = c && (c.id === undefined || c.examples.length);
  if (!find("ranking").open || !able) { order = null; marked = null; paintRanking(); return; }
  ordering = new AbortController();
  const { signal } = ordering;
  const { layer, selected: id } = state;
  const slow = setTimeout(async () => {
    while (mine === orders) {
      try {
        const p = await get("api/progress");
        if (mine === orders) find("ranked-said").textContent = p.total ? `Putting the photos in order: ${p.done} of ${p.total}…` : "Putting the photos in order…";
      } catch { return; }
      await new Promise((done) => { setTimeout(done, 500); });
    }
  }, 400);
  try {
    const answer = await send("api/rank", { concept: spec(c), layer, page, number: mine, maps: most }, "POST", signal);
    if (mine !== orders) return;
    orders += 1;
    order = { ...answer, id };
    paintRanking();
    marked = null;
    document.documentElement.dataset.ranked = String(mine);
  } catch (error) {
    if (error.name === "AbortError" || error.answer?.superseded || mine !== orders) return;
    if (!(error instanceof Trouble)) throw error;
    orders += 1;
    order = { trouble: error.message, id, photos: [] };
    paintRanking();
  } finally {
    clearTimeout(slow);
  }
};

const markPhoto = (kind, photo) => {
  const other = kind === "examples" ? "negatives" : "examples";
  marked = { picture: photo.picture, kind };
  acts.after(change(() => {
    const c = editable();
    // of a found concept whole photos count, so that none can be on both sides
    c[other] = c[other].filter((e) => (c.found.length ? e.picture !== photo.picture : !sameExample(photo.peak)(e)));
    if (!c[kind].some(sameExample(photo.peak))) c[kind].push(photo.peak);
  }));
};

const card = (photo, i) => {
  const info = state.pictures.get(photo.picture);
  const item = make("li");
  item.dataset.picture = photo.picture;
  const pick = button("", `Open ${info.name}`, () => acts.openPhoto(photo.picture), "pick");
  const shot = make("span", "", "shot");
  const image = make("img");
  image.src = address(photo.picture, { size: 320 });
  image.alt = "";
  shot.style.aspectRatio = `${info.width} / ${info.height}`;
  shot.classList.add(3 * info.width > 4 * info.height ? "wide" : "high");
  shot.append(image);
  if (photo.map && photo.inside && photo.presence > 0) {
    image.className = "grey";
    const map = make("canvas", "", "map");
    drawMap(map, { width: photo.width, height: photo.height, values: unpack(photo.map) });
    place(map, photo.inside, [0, 0, 1, 1]);
    shot.append(map);
  }
  if (photo.peak.box) {
    const peak = make("span", "", "patch");
    place(peak, shares(photo.peak.box, info), [0, 0, 1, 1]);
    shot.append(peak);
  }
  const board = make("span", "", "board");
  board.append(shot);
  pick.append(board, make("span", `${i + 1}. ${info.name}`, "named"));
  const c = editable();
  const holds = (kind) => Boolean(c?.[kind].some((e) => e.picture === photo.picture && (c.found.length || sameExample(e)(photo.peak))));
  const tag = holds("examples") ? ", among the examples" : holds("negatives") ? ", among the counter-examples" : "";
  item.append(pick, make("p", `presence ${value(photo.presence)}${tag}`, "muted"));
  if (c) {
    const row = make("div", "", "bar small");
    for (const [kind, text] of [["examples", "More like this"], ["negatives", "Not like this"]]) {
      const act = button(text, `${text}: ${info.name}`, () => markPhoto(kind, photo));
      act.dataset.kind = kind;
      const done = c[kind].some((e) => sameExample(e)(photo.peak)) || (c.found.length && kind === "examples" && holds(kind));
      act.disabled = Boolean(done);
      row.append(act);
    }
    item.append(row);
  }
  return item;
};

const paintRanking = () => {
  const c = selected();
  const focused = document.activeElement?.closest?.("#ranked li")?.dataset.picture;
  const kind = document.activeElement?.dataset?.kind;
  const fits = order && order.id === state.selected;
  const shown = fits ? order.photos.filter((photo) => state.pictures.has(photo.picture)) : [];
  find("ranked-by").textContent = c ? `The photos by “${c.name || "unnamed"}”` : "The photos by a concept";
  find("ranked").replaceChildren(...shown.slice(0, most).map(card));
  find("ranked-more").hidden = shown.length <= most;
  find("ranked-trouble").hidden = !(fits && order.trouble);
  find("ranked-trouble").textContent = (fits && order.trouble) || "";
  const parts = [];
  if (!c || (c.id !== undefined && !c.examples.length)) parts.push("Name a thing above, or cut an example: then the photos stand here, those that show it most first.");
  else if (shown.length) parts.push(`${count(shown.length, "photo")} by presence at layer ${order.layer}.`);
  for (const [number, cosine] of (fits && order.agreement) || []) {
    if (cosine < 0.9995) parts.push(`After your marks the direction has a cosine of ${fixed(cosine)} with that of thing ${number} as it was found.`);
  }
  if (shown.length && c.found?.length && !order.agreement.length) parts.push("This is not the layer that it was found at: here its direction is learned from the photos that show it.");
  if (fits && order.skipped?.length) parts.push(`Left out: ${order.skipped.join("; ")}.`);
  const at = shown.findIndex((photo) => photo.picture === marked?.picture);
  if (at >= 0) {
    const what = marked.kind === "examples" ? "an example" : "a counter-example";
    parts.unshift(`${state.pictures.get(marked.picture).name} is ${what} now, and number ${at + 1} of ${shown.length}.`);
  }
  find("ranked-said").textContent = parts.join(" ");
  if (focused) {
    const there = all("#ranked li").find((li) => li.dataset.picture === focused);
    const buttons = there ? [...there.querySelectorAll("button")] : [];
    (buttons.find((b) => b.dataset.kind === kind && !b.disabled) ?? buttons.find((b) => !b.disabled) ?? find("ranked-by")).focus();
  }
};

export const start = (given) => {
  acts = given;
  for (const finding_ of state.about.found) state.found.set(finding_.layer, finding_);
  find("find").addEventListener("click", discover);
  find("find-stop").addEventListener("click", () => searching?.abort());
  find("ranking").open = recall("vtcav-ranking") === "open";
  find("ranking").addEventListener("toggle", () => { keep("vtcav-ranking", find("ranking").open ? "open" : ""); rank(); });
  find("ranked-more").addEventListener("click", () => { most += STEP; rank(); });
};
