// The panels: concepts, their examples, their attributions, and how far these can be trusted.
import { address, count, drawn, find, make, value } from "./core.js";
import { can, classes, concept, editable, learned, selected, state } from "./state.js";

export const button = (text, label, act, name = "") => {
  const made = make("button", text, name);
  made.type = "button";
  if (label) made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
};

export const paintPhotos = (open, drop) => {
  find("photo-list").replaceChildren(...[...state.pictures.values()].filter((p) => p.origin !== "concept").map((p) => {
    const item = make("li");
    const pick = button("", "", () => open(p.key), "pick");
    pick.setAttribute("aria-pressed", String(p.key === state.picture));
    const image = make("img");
    image.src = address(p.key, { size: 160 });
    image.alt = "";
    pick.append(image, make("span", p.name));
    pick.title = p.name;
    item.append(pick);
    if (p.origin === "upload") item.append(button("×", `Remove the photo ${p.name}`, () => drop(p), "remove"));
    return item;
  }));
};

export const paintConcepts = (choose) => {
  const entries = [
    ...state.concepts.map((c) => [c.id, c.name || "unnamed", `${c.examples.length}`]),
    ...state.about.learned.map((c) => [`learned ${c.name}`, c.name, "learned"]),
  ];
  find("concept-list").replaceChildren(...entries.map(([id, name, tag]) => {
    const pick = button("", "", () => choose(id));
    pick.setAttribute("aria-pressed", String(id === state.selected));
    pick.append(make("span", name), " ", make("span", `(${tag})`, "tag"));
    return pick;
  }));
  const others = entries.filter(([id]) => id !== state.selected);
  const options = [["", "nothing"], ...others].map(([id, name]) => {
    const option = make("option", name);
    option.value = id;
    return option;
  });
  find("compare").replaceChildren(...options);
  find("compare").value = state.compare ?? "";
  find("compare-label").hidden = !others.length;
  find("undo").disabled = !can().undo;
  find("redo").disabled = !can().redo;
};

export const paintEditor = (takeOut) => {
  const c = editable();
  find("naming").hidden = find("editor").hidden = !c;
  find("examples-whole").disabled = find("negatives-whole").disabled = !state.picture;
  if (!c) return;
  if (document.activeElement !== find("name") || find("name").dataset.id !== c.id) find("name").value = c.name;
  find("name").dataset.id = c.id;
  const trouble = /[/\\]/.test(c.name) || /^\s*(\.|__MACOSX)/.test(c.name) || !c.name.trim();
  find("name-trouble").hidden = !trouble;
  find("name-trouble").textContent = c.name.trim()
    ? "To save the concept, give it a name without / and \\ that does not begin with a dot."
    : "To save the concept, give it a name.";
  const own = c.negatives.length;
  const common = c.shared ? state.about.negatives.count : 0;
  find("examples-count").textContent = `(${c.examples.length})`;
  find("negatives-count").textContent = `(${common + own})`;
  find("shared").checked = c.shared;
  find("shared-text").textContent = `${state.about.negatives.described}.${state.about.negatives.stand_in
    ? " They are only a stand-in: give images of the kind your network knows with --negatives." : ""}`;
  for (const kind of ["examples", "negatives"]) {
    find(kind).replaceChildren(...c[kind].map((example, i) => {
      const info = state.pictures.get(example.picture);
      const what = `${kind === "examples" ? "Example" : "Counter-example"} ${i + 1}`;
      const from = example.box ? `patch of ${info?.name ?? "a photo"}` : info?.name ?? "an image";
      const item = make("li");
      const image = make("img");
      image.src = address(example.picture, { size: 144, box: example.box, seen: true });
      image.alt = `${what}: ${from}`;
      image.title = `${from}, as the network sees it`;
      item.append(image, button("×", `Remove ${what.toLowerCase()}`, () => takeOut(kind, i), "remove"));
      return item;
    }));
    find(kind).hidden = !c[kind].length;
  }
};

export const LEVELS = { fine: ["fine", "✓"], look: ["look", "!"], "do not use": ["bad", "✕"] };
const shownIds = () => (state.compare !== null ? [state.selected, state.compare] : [state.selected]);

export const paintTrust = () => {
  const parts = [];
  for (const id of shownIds()) {
    const c = concept(id);
    const found = state.results.get(id);
    if (!c || !found || found.layer !== state.layer) continue;
    const few = fewness(found);
    if (few) parts.push(make("p", few, "few"));
    if (found.skipped.length) parts.push(make("p", `Left out: ${found.skipped.join("; ")}`, "few"));
    for (const note of found.judged ? commonNotes(found) : []) parts.push(make("p", `${note[0].toUpperCase()}${note.slice(1)}.`, "few"));
    if (!found.trust) continue;
    const [name, sign] = LEVELS[found.trust.level] ?? ["unknown", "?"];
    const line = make("p");
    if (shownIds().length > 1) line.append(make("b", `${c.name}: `));
    line.append(make("span", `${sign} ${found.trust.level}`, `level ${name}`), ` ${found.trust.meaning}`);
    parts.push(line);
  }
  find("trust").replaceChildren(...parts);
};

// -- what erasing says

const withoutIt = (answer, what) => {
  const parts = answer.sentences.map((text, i) => make("p", text, i ? "muted" : `said${answer.sure[i] ? " sure" : ""}`));
  if (answer.after) {
    const pair = make("figure", "", "pair");
    for (const [source, alt] of [[answer.before, `The region of ${what}, outlined`], [answer.after, `The photo without ${what}`]]) {
      const image = make("img");
      image.src = source;
      image.alt = alt;
      pair.append(image);
    }
    pair.append(make("figcaption", "As the network sees it: the outlined region, and what it was filled in with. Judge the fill by eye."));
    parts.push(pair);
  }
  for (const note of answer.notes) parts.push(make("p", `${note[0].toUpperCase()}${note.slice(1)}.`, "few"));
  return parts;
};

// without a word on its other classes: a concept's sentence is about the most probable one
const brief = (answer) => {
  const names = answer.changes.slice(1).map(({ class_index: t, change }) => `${state.about.classes[t]} ${change}`);
  return { ...answer, sentences: [answer.sentences[0], ...(answer.after && names.length ? [`Other classes: ${names.join(", ")}.`] : [])] };
};

export const paintSaid = () => {
  const parts = [];
  for (const id of shownIds()) {
    const said = state.said.get(id);
    if (!said || said.picture !== state.picture) continue;
    if (said.answer) parts.push(...withoutIt(brief(said.answer), concept(id)?.name ?? "the concept"));
    else parts.push(make("p", said.text, "muted"));
  }
  find("said").replaceChildren(...parts);
};

export const paintErased = () => {
  const { erased } = state;
  const shown = erased !== null && erased.picture === state.picture;
  find("erased").hidden = !shown;
  if (!shown) return;
  find("erased-said").replaceChildren(...(erased.answer ? withoutIt(erased.answer, "the marked region") : [make("p", "Erasing…", "muted")]));
};

// notes that hold for all classes are shown once
const notesOf = (row) => row.note.split("; ").filter(Boolean);
const commonNotes = ({ rows }) => (rows.length ? notesOf(rows[0]).filter((note) => rows.every((row) => notesOf(row).includes(note))) : []);

const fewness = ({ examples: n }) => {
  if (n >= 30) return "";
  if (n < 5) return `${count(n, "example")} ${n === 1 ? "shows an idea and proves" : "show an idea and prove"} nothing: another choice may look quite different. vtcav reports on five at least; 30 or more are usual.`;
  return `${n} examples are few: 30 or more, from many photos, are usual before claiming anything.`;
};

// The end of the scale of all bars: 1, 2 or 5 times a power of ten. It only grows, so that a bar means the same
// on every photo, unless a later value is larger.
let limit = 0.1;
const scaleFor = (most) => {
  const ten = 10 ** Math.floor(Math.log10(most));
  const round = Number(([1, 2, 5].find((step) => step * ten >= most * 0.9999) ?? 10) * ten).toPrecision(1);
  limit = Math.max(limit, Number(round));
  return limit;
};

export const paintBars = (takeOut) => {
  const found = shownIds().map((id) => [concept(id), state.results.get(id)])
    .filter(([c, f]) => c && f && f.picture === state.picture && f.layer === state.layer);
  const c = selected();
  if (!c || !found.length) {
    find("bars").replaceChildren(make("p", c && !learned(state.selected) && !c.examples.length
      ? "Bars for each class appear here with the first example." : "", "muted"));
    return;
  }
  const look = state.looks.get(state.picture);
  const end = scaleFor(Math.max(1e-3, ...found.flatMap(([, f]) => f.rows.flatMap((r) => [r.attribution, r.cav_high ?? 0, r.null_mean ?? 0]))));
  const scale = make("p", `All bars run from 0 to ${end}. 1 would be the whole increase of the best class’s score.`, "muted");
  scale.id = "bars-scale";
  find("bars").replaceChildren(scale, ...classes().map((t) => {
    const box = make("div", "", "class");
    const head = make("div", "", "row");
    const name = state.about.classes[t];
    const guess = look?.predictions.find((p) => p.index === t);
    const title = make("h3", name);
    if (guess) title.append(make("span", ` probability ${value(guess.probability)}`, "muted"));
    head.append(title, button("×", `Remove the class ${name}`, () => takeOut(t), "remove-class"));
    box.append(head, ...found.map(([shown, f]) => strip(shown, f, t, end, found.length > 1)));
    return box;
  }));
};

const strip = (c, f, t, end, several) => {
  const line = make("div", "", "strip");
  const row = f.rows.find((r) => r.class_index === t);
  line.append(make("span", several ? c.name : ""));
  if (!row) {
    line.append(make("span", "being computed…", "number muted"));
    return line;
  }
  const tested = f.judged && row.p_value !== null;
  const stands = tested && row.q_value <= 0.05 && row.attribution > 0;
  const verdict = !f.judged ? "… comparing" : !f.separated ? "✕ not separated" : !tested ? "□ not tested" : stands ? "◆ beyond random images" : "○ not beyond random images";
  line.append(make("span", `${value(row.attribution)} ${verdict}`, "number"));
  const x = (v) => 4 + 312 * Math.min(Math.max(v / end, 0), 1);
  const svg = drawn("svg", { viewBox: "0 0 320 16", role: "img", "aria-label": `${c.name} for ${row.class_name}: ${value(row.attribution)} on a scale from 0 to ${end}, ${verdict.slice(2)}` });
  svg.append(drawn("rect", { class: "track", x: 4, y: 2.5, width: 312, height: 11 }));
  if (row.attribution > 0) svg.append(drawn("rect", { class: stands ? "fill" : "fill no", x: 4, y: 3.5, width: Math.max(x(row.attribution) - 4, 1), height: 9 }));
  if (row.null_mean !== null) svg.append(drawn("path", { class: "random", d: `M${x(row.null_mean)} 1v14` }));
  if (row.cav_low !== null && row.cav_high !== null) svg.append(drawn("path", { class: "range", d: `M${x(row.cav_low)} 8H${x(row.cav_high)}M${x(row.cav_low)} 5v6M${x(row.cav_high)} 5v6` }));
  const about = [];
  if (tested) about.push(`${percent(row.p_value)} of concepts made of random images get as much (dashed line: their mean, ${value(row.null_mean ?? 0)})`);
  if (row.cav_low !== null && row.cav_high !== null) about.push(`with other examples about ${value(row.cav_low)} to ${value(row.cav_high)}`);
  if (row.rough !== null && Math.abs(row.rough - row.attribution) > 0.0005) about.push(`half the integration steps give ${value(row.rough)}`);
  if (f.judged) about.push(...notesOf(row).filter((note) => !commonNotes(f).includes(note)));
  const axis = make("span", "", "axis");
  axis.setAttribute("aria-hidden", "true");
  axis.append(make("span", "0"), make("span", String(end)));
  line.append(svg, axis);
  const text = about.join("; ");
  line.append(make("span", text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "", "more"));
  return line;
};

const percent = (p) => (p < 0.01 ? `${(100 * p).toFixed(1)} %` : `${Math.round(100 * p)} %`);
