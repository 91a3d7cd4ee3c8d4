// The body of a function of jQuery, $, which brings DataTables. Data: the JSON in #data, made by page.py.
// Whatever comes from the data enters the document as text only.

const data = JSON.parse(document.getElementById("data").textContent);
const unpack = ({ columns, rows }) => rows.map((row) => Object.fromEntries(columns.map((name, k) => [name, row[k]])));
const cells = unpack(data.cells).map((cell, id) => ({ ...cell, id, runs: [] }));
unpack(data.runs).forEach((run, k) => cells[run.cell].runs.push({ ...run, curves: data.curves[k], evidence: data.evidence[k] }));
const verdicts = unpack(data.verdicts);
const sanity = unpack(data.sanity);
const pairs = unpack(data.pairs);

const MOST = 8; // as many cells as there are dashes: of one colour none looks like another
const STROKES = { solid: "", dash: "8 4", dot: "2 3", dashdot: "8 3 2 3", longdash: "14 5", longdashdot: "14 3 2 3", "5px,2px": "5 2", "2px,7px": "2 7" };
const DASHES = Object.keys(STROKES);
const dashOf = (shown, k) => DASHES[shown.slice(0, k).filter((cell) => cell.colour === shown[k].colour).length];
const dark = window.matchMedia("(prefers-color-scheme: dark)");
function colourOf(cell) { // the method's, as in the figures; lighter on black
  if (!dark.matches) return cell.colour;
  const light = [1, 3, 5].map((k) => Math.round(parseInt(cell.colour.slice(k, k + 2), 16) * 0.6 + 255 * 0.4));
  return cell.colour === "#000000" ? "#e6e7e8" : `rgb(${light.join(", ")})`;
}

// Small things

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
const one = (selector) => document.querySelector(selector);
const none = (value) => value === null || value === undefined || value === "";
const fixed = (value, digits) => (none(value) ? "" : value.toFixed(digits));
const distinct = (values) => [...new Set(values.filter((value) => !none(value)))];
const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;").replace(/"/g, "&quot;");
const inPlot = (text) => escaped(text).replace(/[%{}]/g, (sign) => `&#${sign.charCodeAt(0)};`); // no hover templates
const plus = (mean, std) => (none(mean) ? "" : none(std) ? fixed(mean, 1) : `${fixed(mean, 1)} ± ${fixed(std, 1)}`);
const interval = (low, high, digits = 1) => (none(low) ? "" : `[${fixed(low, digits)}, ${fixed(high, digits)}]`);
const method = (cell) => (cell.variant === "paper" ? cell.method : `${cell.method} (${cell.variant})`);
const nameOf = (cell) => `${method(cell)}, ${cell.dataset}, ${cell.model}, eps ${cell.eps}`;
const HEADINGS = { aa: "AA", pgd10: "PGD10", pgd50: "PGD50", best_clean: "best epoch: clean", best_pgd10: "PGD10", best_pgd50: "PGD50", best_aa: "AA" };

const KINDS = [ // by the words of verdicts.csv, claims.csv and sanity.csv; any other is open
  [/masking suspected|does not hold|not reproduced/, "bad"],
  [/^(holds|ok|reproduced)/, "good"],
  [/^(not run|not measured|other hardware)/, "none"],
];
const kindOf = (verdict) => (KINDS.find(([pattern]) => pattern.test(verdict)) ?? [null, "open"])[1];
function verdictMark(text) {
  return none(text) ? "" : el("span", { class: `verdict ${kindOf(text)}` }, text);
}
document.querySelectorAll(".verdict").forEach((node) => node.classList.add(kindOf(node.dataset.verdict)));

// Tables: a column is {title, value(row): what it sorts by, text(row), node(row) instead of text, help, number, className}

const later = (a, b, sign) => (none(a) ? (none(b) ? 0 : 1) : none(b) ? -1 : sign * (a < b ? -1 : a > b ? 1 : 0));
$.fn.dataTable.ext.type.order["empty-last-asc"] = (a, b) => later(a, b, 1);
$.fn.dataTable.ext.type.order["empty-last-desc"] = (a, b) => later(a, b, -1);

function grid(table, columns, rows, order) {
  const heads = columns.map((column) =>
    el("th", { scope: "col", title: column.help ?? "", class: column.className ?? (column.number ? "number" : "") }, column.title));
  table.replaceChildren(el("thead", {}, el("tr", {}, ...heads)));
  const text = (column, row) => (column.text ?? column.value)(row) ?? "";
  const api = $(table).DataTable({
    data: rows, order, autoWidth: false, pageLength: 25, layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
    columns: columns.map((column) => ({
      data: null, type: "empty-last", orderable: !column.plain, orderSequence: column.number ? ["desc", "asc"] : ["asc", "desc"],
      className: column.className ?? (column.number ? "number" : ""),
      render: (_, type, row) => {
        if (type === "display") return column.node ? column.node(row) : escaped(text(column, row));
        if (type === "sort" || type === "type") {
          const value = column.value(row);
          return none(value) ? null : typeof value === "string" ? value.toLowerCase() : value;
        }
        return column.plain ? "" : String(text(column, row));
      },
      createdCell: (cell, _, row) => column.className === "name" && (cell.title = text(column, row)),
    })),
  });
  table.tHead.addEventListener("keydown", (event) => {
    if (event.key !== " " || event.target.getAttribute("role") !== "button") return;
    event.preventDefault(); // Enter is DataTables'
    event.target.dispatchEvent(new MouseEvent("click", { bubbles: true, shiftKey: event.shiftKey }));
  });
  table.closest(".box").after(pager(api));
  window.addEventListener("beforeprint", () => api.page.len(-1).draw(false));
  window.addEventListener("afterprint", () => api.page.len(25).draw(false));
  return api;
}

function pager(api) {
  const said = el("span", { role: "status" });
  const turn = (to, label) => {
    const button = el("button", { type: "button" }, label);
    button.addEventListener("click", () => api.page(to).draw("page"));
    return button;
  };
  const [back, next] = [turn("previous", "‹ Back"), turn("next", "Next ›")];
  const size = el("select", { "aria-label": "Rows per page" });
  for (const n of [25, 50, 100]) size.append(el("option", { value: n }, `${n} rows`));
  size.addEventListener("change", () => api.page.len(Number(size.value)).draw());
  const say = () => {
    const { start, end, recordsDisplay: shown, recordsTotal: all } = api.page.info();
    said.textContent = `${shown ? start + 1 : 0}–${end} of ${shown}${shown < all ? ` (${all} in all)` : ""}`;
    back.disabled = start === 0;
    next.disabled = end >= shown;
  };
  api.on("draw", say);
  say();
  return el("div", { class: "below" }, said, el("span", { class: "pages" }, size, back, next));
}

function searchBox(api, label = "Search") {
  const input = el("input", { type: "search", placeholder: "any text" });
  input.addEventListener("input", () => api.search(input.value, { smart: true, regex: false }).draw());
  return el("label", {}, label, input);
}

// The leaderboard

const SHARE = "% of test images, or of those that the row names";
const accuracy = (metric, title, help) => ({
  title, help, number: true, value: (cell) => cell[metric],
  node: (cell) => el("span", {}, plus(cell[metric], cell[`${metric}_std`]), ...remark(cell, metric)),
  text: (cell) => plus(cell[metric], cell[`${metric}_std`]),
});
function remark(cell, metric) {
  const found = metric === "aa" && !none(cell.aa) ? [el("small", {}, interval(cell.aa_low, cell.aa_high))] : [];
  if (!none(cell[metric]) && otherImages(cell)) found.push(el("small", {}, otherImages(cell)));
  return [...found, ...fewer(cell, metric)];
}
// what a checkpoint from elsewhere was attacked on ends its name (config/external.py); "": test images as they are
function otherImages(cell) {
  const [, train, released] = (cell.method === "external" && cell.variant.match(/(_train)?(_released)?$/)) || [];
  return train || released ? `${train ? "training" : "test"} images${released ? " with a border" : ""}` : "";
}
function fewer(cell, metric) {
  const measured = cell[`${metric}_seeds`];
  if (measured === cell.seeds) return [];
  if (measured > 0) return [el("small", {}, `${measured} of ${cell.seeds} seeds`)];
  return [el("small", {}, cell.diverged === cell.seeds ? "diverged" : "not measured")];
}
function bestEpochs(cell) {
  if (none(cell.best_first)) return "";
  return cell.best_first === cell.best_last ? `${cell.best_first}` : `${cell.best_first}–${cell.best_last}`;
}
// of a checkpoint from elsewhere nobody knows how its training went; a run that diverged is no collapse
const ended = (cell) => cell.seeds - cell.diverged;
const ofTrainings = (cell, name) => (cell.method === "external" ? "" : `${cell[name]} of ${ended(cell)}${cell.diverged ? `; ${cell.diverged} diverged` : ""}`);
const shareOf = (cell, name) => (ended(cell) ? cell[name] / ended(cell) : null);

const KIND = (run) => (!run.collapsed_at_end ? "while" : run.robustness_lost === 0 ? "never" : "end");
const leftOut = (run) => !none(run.left_out) && none(run.diverged); // whole: nobody knows anything of it
function collapseEpochs(cell) {
  if (none(cell.collapse_epoch)) return "";
  return cell.runs.filter((run) => !leftOut(run)).map((run) => (run.diverged ? "diverged" : none(run.collapse_epoch) ? "–" : `${run.collapse_epoch} ${KIND(run)}`)).join(", ");
}
function secondsNode(cell) {
  if (cell.why_no_seconds) return el("small", {}, cell.why_no_seconds);
  return document.createTextNode(none(cell.train_seconds) ? "" : fixed(cell.train_seconds, cell.train_seconds < 100 ? 1 : 0));
}

const columns = [
  { title: "Draw, evidence", className: "act", plain: true, value: () => null, node: actions },
  { title: "Method", className: "name", value: (cell) => cell.method,
    node: (cell) => el("span", {}, el("span", { class: "swatch", style: `--of: ${cell.colour}`, "aria-hidden": "true" }), cell.method) },
  { title: "Recipe", className: "name", value: (cell) => cell.variant, help: "paper, or a named variant" },
  { title: "Data set", className: "name", value: (cell) => cell.dataset },
  { title: "Model", className: "name", value: (cell) => cell.model },
  { title: "eps", number: true, value: (cell) => cell.eps_255, text: (cell) => cell.eps },
  { title: "Seeds", number: true, value: (cell) => cell.seeds, help: "and how many of them diverged",
    text: (cell) => (cell.diverged ? `${cell.seeds} (${cell.diverged} diverged)` : `${cell.seeds}`) },
  accuracy("clean", "Clean", `${SHARE}, no attack`),
  accuracy("pgd10", "PGD10", SHARE),
  accuracy("pgd50", "PGD50", SHARE),
  accuracy("aa", "AA [95 %]", `AutoAttack, ${SHARE}`),
  ...data.attacks.map(({ name, words }) => accuracy(name, name, `${words}, ${SHARE}`)),
  ...(cells.some((cell) => !none(cell.best_epoch)) ? [
    accuracy("best_pgd50", "PGD50, best", "of the weights of the epoch that was best on held-out training images"),
    accuracy("best_aa", "AA, best", "of the weights of the epoch that was best on held-out training images"),
    { title: "best epoch", number: true, value: (cell) => cell.best_epoch, text: (cell) => fixed(cell.best_epoch, 1), help: "the best on held-out training images, mean over seeds" },
  ] : []),
  { title: "Verdict", help: "ours against the paper's number", value: (cell) => cell.verdict,
    node: (cell) => el("span", {}, verdictMark(cell.verdict), ...(none(cell.verdict) ? [] : [el("small", {}, heading(cell.verdict_metric))])) },
  { title: "Sanity", help: "of the attacks", value: (cell) => cell.sanity, node: (cell) => el("span", {}, verdictMark(cell.sanity)) },
  { title: "Collapsed at the end", number: true, value: (cell) => shareOf(cell, "collapsed_at_end"), text: (cell) => ofTrainings(cell, "collapsed_at_end") },
  { title: "for a while", number: true, value: (cell) => shareOf(cell, "collapsed_for_a_while"), text: (cell) => ofTrainings(cell, "collapsed_for_a_while"),
    help: "collapsed for epochs in succession, and recovered" },
  { title: "at epoch", number: true, value: (cell) => cell.collapse_epoch, text: collapseEpochs, help: "first epoch of collapse, of the one that lasts if there are several, by seed, and whether to the end, of a network that was not robust before (never), or for a while" },
  { title: "Train PGD10", number: true, value: (cell) => cell.train_pgd10_last, help: "% of training images, last epoch",
    text: (cell) => fixed(cell.train_pgd10_last, 1) },
  { title: "best", number: true, value: (cell) => cell.train_pgd10_best, help: "% of training images, best epoch", text: (cell) => fixed(cell.train_pgd10_best, 1) },
  { title: "at epoch", number: true, value: (cell) => cell.best_first, text: bestEpochs, help: "the best epoch, or from-to over seeds" },
  { title: "Train s", number: true, value: (cell) => cell.train_seconds, node: secondsNode, text: (cell) => cell.why_no_seconds || fixed(cell.train_seconds, 1),
    help: "seconds of training, mean over seeds" },
  { title: "Peak MB", number: true, value: (cell) => cell.peak_memory_mb, text: (cell) => fixed(cell.peak_memory_mb, 0), help: "memory, largest of the seeds" },
  { title: "Hardware", className: "name", value: (cell) => cell.hardware },
];
function heading(metric) {
  return HEADINGS[metric] ?? metric;
}

const chosen = new Set();
function actions(cell) {
  const box = el("input", { type: "checkbox", "aria-label": `Draw ${nameOf(cell)}` });
  box.checked = chosen.has(cell.id);
  box.dataset.cell = cell.id;
  box.addEventListener("change", () => choose(cell, box.checked));
  const button = el("button", { type: "button", "aria-label": `Evidence of ${nameOf(cell)}`, "aria-haspopup": "dialog" }, "Evidence");
  button.addEventListener("click", () => showEvidence(cell));
  return el("span", {}, box, button);
}
function choose(cell, on) {
  if (on && chosen.size >= MOST) chosen.delete(chosen.values().next().value);
  if (on) chosen.add(cell.id);
  else chosen.delete(cell.id);
  tick();
  draw();
}
function tick() {
  document.querySelectorAll("#cells input[data-cell]").forEach((box) => (box.checked = chosen.has(Number(box.dataset.cell))));
}

const FILTERS = [["dataset", "Data set"], ["model", "Model"], ["eps", "eps"], ["method", "Method"], ["variant", "Recipe"]];
function filters(api) {
  const form = one(".filters");
  const selects = FILTERS.map(([field, label]) => {
    const select = el("select", { name: field }, el("option", { value: "" }, "all"));
    const sorted = field === "eps" ? [...cells].sort((a, b) => a.eps_255 - b.eps_255) : [...cells].sort((a, b) => (a[field] < b[field] ? -1 : 1));
    for (const value of distinct(sorted.map((cell) => cell[field]))) select.append(el("option", { value }, value));
    form.append(el("label", {}, label, select));
    return select;
  });
  const fits = (cell) => selects.every((select) => select.value === "" || cell[select.name] === select.value);
  api.search.fixed("filters", (_, cell) => fits(cell));
  form.addEventListener("change", () => api.draw());
  form.addEventListener("submit", (event) => event.preventDefault());
  const clear = el("button", { type: "reset" }, "Clear");
  form.append(searchBox(api), clear);
  form.addEventListener("reset", () => setTimeout(() => api.search("").draw()));
}

// Evidence of a cell

function facts(pairsOfTexts) {
  const list = el("dl", { class: "facts" });
  for (const [term, value] of pairsOfTexts) if (!none(value)) list.append(el("dt", {}, term), el("dd", {}, value));
  return list;
}
function plainTable(heads, rows) {
  const body = rows.map((row) => el("tr", {}, ...row.map((value) => el("td", {}, value ?? ""))));
  const head = el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)));
  return el("div", { class: "box", tabindex: "0", role: "region", "aria-label": heads.join(", ") }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...body)));
}
const MEASURED = ["clean", "fgsm", "pgd10", "pgd50", "aa", "noise", "far", "gradient", "inside", "best_clean", "best_pgd10", "best_pgd50", "best_aa", ...data.attacks.map(({ name }) => name)];
const COLLAPSE = (run) => (none(run.collapse_epoch) ? "none" : `epoch ${run.collapse_epoch}, ${{ end: "collapsed at the end", never: "collapsed at the end, not robust before", while: "for a while" }[KIND(run)]}`);

function seedEvidence(cell, run, open) {
  const about = run.evidence === null ? {} : Object.fromEntries(run.evidence.map((k) => data.facts[k]));
  const { recipe, made_from, versions, git_commit, folder, device, threads, machine, numerics, status, cause, collapse, train_seconds, peak_memory_mb, ...others } = about;
  const nThreads = machine?.threads ?? threads;
  const measured = MEASURED.filter((name) => !none(run[name])).map((name) => `${heading(name)} ${fixed(run[name], 1)}`);
  const all = facts([
    ["status", [status ?? (leftOut(run) ? "left out" : run.diverged ? "diverged" : none(run.clean) ? "not evaluated" : "evaluated"), cause || run.cause].filter(Boolean).join(": ")],
    [otherImages(cell) ? `measured, % of ${otherImages(cell)}` : "measured, %", measured.join(" · ") + (none(run.aa_n) ? "" : ` (AA on ${run.aa_n} images)`)],
    ["collapse", status === "external" || leftOut(run) ? "" : COLLAPSE(run)],
    ["training PGD10", none(run.train_pgd10_last) ? "" : `last ${fixed(run.train_pgd10_last, 1)}, best ${fixed(run.train_pgd10_best, 1)} at epoch ${run.train_pgd10_best_epoch}`],
    ["cost", [none(run.train_seconds) ? "" : `${fixed(run.train_seconds, 1)} s`, none(run.peak_memory_mb) ? "" : `${fixed(run.peak_memory_mb, 0)} MB at most`].filter(Boolean).join(", ")],
    ["hardware", [device ?? run.device, machine?.instruction_set, nThreads && `${nThreads} thread${nThreads > 1 ? "s" : ""}`, numerics && `${numerics} numerics`].filter(Boolean).join(", ")],
    ["seed", run.seed],
    ["config hash", made_from],
    ["git commit", git_commit],
    ["versions", versions && Object.entries(versions).map((pair) => pair.join(" ")).join(", ")],
    ["log", folder && `${folder}/log.csv`],
    ...Object.entries(others).filter(([name]) => name !== "run").map(([name, value]) => [name.replaceAll("_", " "), typeof value === "object" ? JSON.stringify(value) : String(value)]),
  ]);
  const details = el("details", {}, el("summary", {}, `Seed ${run.seed}${run.diverged ? ", diverged" : ""}`), all);
  details.open = open;
  if (recipe) details.append(el("p", { class: "small" }, "Config, as it was resolved:"), el("pre", { tabindex: "0" }, JSON.stringify(recipe, null, 1)));
  if (run.evidence === null) details.append(el("p", { class: "empty" }, "There is no line for this run in evidence.jsonl."));
  return details;
}

function showEvidence(cell) {
  const content = one("#evidence .content");
  const judged = cell.variant !== "paper" ? [] : verdicts.filter((row) => ["dataset", "model", "eps", "method"].every((name) => row[name] === cell[name]));
  const checks = sanity.filter((row) => row.cell === cell.id);
  one("#h-evidence").textContent = nameOf(cell);
  content.replaceChildren();
  if (judged.length) {
    content.append(el("h3", {}, "Against the paper"), plainTable(["Table", "Metric", "Paper", "Ours", "Gap", "Verdict", "Why"],
      judged.map((row) => [row.table, heading(row.metric), row.paper, plus(row.ours, row.std), fixed(row.gap, 1), verdictMark(row.verdict), row.reason])));
  }
  content.append(el("h3", {}, "Sanity of the attacks"));
  if (checks.length) {
    content.append(plainTable(["Seed", "Check", "Value", "Limit", "Holds"],
      checks.map((row) => [row.seed, row.check, row.value, row.limit, verdictMark(none(row.holds) ? "not measured" : row.holds ? "holds" : "does not hold")])));
  } else content.append(el("p", { class: "empty" }, "Not checked."));
  content.append(el("h3", {}, "Runs"), ...cell.runs.map((run, k) => seedEvidence(cell, run, k === 0 || cell.runs.length <= 3)));
  one("#evidence").showModal();
}
one("#evidence .close").addEventListener("click", () => one("#evidence").close());
one("#evidence").addEventListener("click", (event) => event.target.id === "evidence" && event.target.close());

// Plots

let loading = null;
function plotly() {
  loading ??= (async () => {
    const bytes = Uint8Array.from(atob(one("#plotly").textContent), (sign) => sign.charCodeAt(0));
    const script = el("script");
    script.textContent = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    document.head.append(script); // the policy knows its hash
    return window.Plotly;
  })();
  return loading;
}
const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["toImage", "select2d", "lasso2d", "autoScale2d"] };
const layout = (title, x, y, more = {}) => ({
  title: { text: title, font: { size: 14 }, x: 0, xref: "paper", xanchor: "left" }, margin: { l: 52, r: 12, t: 40, b: 44 }, showlegend: false,
  paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: "system-ui, sans-serif", size: 12 }, hovermode: "closest",
  xaxis: { title: { text: x }, zeroline: false, ...more.xaxis }, yaxis: { title: { text: y }, zeroline: false, ...more.yaxis },
});
const PANELS = [
  ["pgd10", "PGD10 accuracy", "%", { rangemode: "tozero" }], ["fgsm", "FGSM accuracy", "%", { rangemode: "tozero" }], ["loss", "Loss under PGD10", "nats", {}],
];

function lines(cell, dash, panel) {
  const traces = [];
  const colour = colourOf(cell);
  for (const run of cell.runs) {
    const y = run.curves[panel];
    if (!y || y.every((value) => value === null)) continue;
    const x = run.curves.epoch;
    const name = inPlot(`${method(cell)}, seed ${run.seed}`);
    traces.push({ x, y, name, mode: x.length > 1 ? "lines" : "markers", line: { color: colour, dash, width: 1.8 },
      hovertemplate: `${name}<br>epoch %{x}: %{y}<extra></extra>` });
    const at = run.diverged ? -1 : x.indexOf(run.collapse_epoch);
    if (at >= 0) traces.push({ x: [x[at]], y: [y[at]], mode: "markers", marker: { symbol: run.collapsed_at_end ? "x" : "circle-open", size: 9, color: colour, line: { width: run.collapsed_at_end ? 0 : 2 } },
      hovertemplate: `${name} collapsed ${run.collapsed_at_end ? "at the end" : "for a while"}<br>epoch %{x}<extra></extra>` });
  }
  return traces;
}
async function drawCurves(shown) {
  const [panels, status] = ["#curves .panels", "#curves .status"].map(one);
  status.textContent = shown.length ? "" : cells.length ? "No cell is chosen: tick one in the leaderboard." : "There is no run.";
  if (!shown.length) return panels.replaceChildren();
  const Plotly = await plotly();
  while (panels.children.length < PANELS.length) panels.append(el("div"));
  const traces = PANELS.map(([panel]) => shown.flatMap((cell, k) => lines(cell, dashOf(shown, k), panel)));
  traces.forEach((some, k) => (panels.children[k].hidden = !some.length)); // before drawing: the others share the width
  for (const [k, [, title, unit, yaxis]] of PANELS.entries()) {
    if (traces[k].length) await Plotly.react(panels.children[k], traces[k], layout(title, "epoch", unit, { yaxis }), CONFIG);
  }
  const missing = PANELS.filter((_, k) => !traces[k].length).map(([, title]) => title);
  if (missing.length) status.textContent = `Not recorded for these cells: ${missing.join(", ")}.`;
}
function chips(shown) {
  one(".chips").replaceChildren(...shown.map((cell, k) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    line.setAttribute("viewBox", "0 0 36 8");
    line.setAttribute("width", "36");
    line.setAttribute("height", "8");
    line.setAttribute("aria-hidden", "true");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", "M0 4H36");
    path.setAttribute("stroke", colourOf(cell));
    path.setAttribute("stroke-width", "2.5");
    path.setAttribute("stroke-dasharray", STROKES[dashOf(shown, k)]);
    line.append(path);
    const button = el("button", { type: "button", "aria-label": `Do not draw ${nameOf(cell)}` }, "×");
    button.addEventListener("click", () => choose(cell, false));
    return el("li", {}, line, nameOf(cell), button);
  }));
}

const surfaces = Map.groupBy(data.surfaces, (surface) => surface.cell);
function landscapeForm(shown) {
  const form = one("#landscapes form");
  const before = Object.fromEntries(new FormData(form));
  const having = distinct([...shown.map((cell) => cell.id), ...surfaces.keys()]).filter((id) => surfaces.has(id)); // the chosen first
  form.replaceChildren();
  if (!having.length) return [];
  const pick = (name, label, options) => {
    const select = el("select", { name }, ...options.map(([value, text]) => el("option", { value }, text)));
    if (options.some(([value]) => String(value) === before[name])) select.value = before[name];
    form.append(el("label", {}, label, select));
    return select.value;
  };
  const id = Number(pick("cell", "Cell", having.map((id) => [id, nameOf(cells[id])])));
  const seed = pick("seed", "Seed", distinct(surfaces.get(id).map((surface) => surface.seed)).map((seed) => [seed, seed]));
  const ofSeed = surfaces.get(id).filter((surface) => surface.seed === seed);
  const group = pick("group", "Images", distinct(ofSeed.map((surface) => surface.group)).map((group) => [group, group === "mean" ? "mean of all" : group.replace("image:", "test image ")]));
  return ofSeed.filter((surface) => surface.group === group);
}
function niceStep(range) { // 1, 2 or 5 times a power of ten, for about eight contours
  if (!(range > 0)) return 0;
  const power = 10 ** Math.floor(Math.log10(range / 8));
  return power * [1, 2, 5, 10].find((step) => step * power >= range / 8);
}
async function drawLandscapes(shown) {
  const [panels, status] = ["#landscapes .panels", "#landscapes .status"].map(one);
  const drawn = landscapeForm(shown);
  const heights = drawn.flatMap((surface) => surface.z.flat()).filter((value) => value !== null);
  status.textContent = heights.length ? "" : drawn.length ? "No loss of this landscape is a number." : "No landscape has been measured.";
  if (!heights.length) return panels.replaceChildren();
  const Plotly = await plotly();
  const [zmin, zmax] = [heights.reduce((a, b) => Math.min(a, b), Infinity), heights.reduce((a, b) => Math.max(a, b), -Infinity)];
  const size = niceStep(zmax - zmin);
  const start = size ? Math.ceil(zmin / size) * size : zmin;
  while (panels.children.length < drawn.length) panels.append(el("div"));
  while (panels.children.length > drawn.length) panels.lastChild.remove();
  for (const [k, { u, w, z, epoch, n }] of drawn.entries()) {
    const trace = { type: "contour", x: u, y: w, z, zmin, zmax, colorscale: "Cividis", autocontour: false,
      contours: { coloring: "heatmap", showlabels: size > 0, showlines: size > 0, start, end: zmax, size: size || 1 },
      line: { width: 0.8, color: "rgba(255,255,255,0.7)" }, colorbar: { thickness: 12, title: { text: "nats" } },
      hovertemplate: "u %{x}, w %{y}: %{z} nats<extra></extra>" };
    const title = `${none(epoch) ? "Last epoch" : `Epoch ${epoch}`}${none(n) ? "" : `, n = ${n}`}`;
    await Plotly.react(panels.children[k], [trace], layout(title, "u (eps, gradient sign)", "w (eps, random)", {}), CONFIG);
  }
}
let latest = 0;
let waiting = Promise.resolve();
function draw() { // one drawing at a time, and none that is out of date before it starts
  const shown = [...chosen].map((id) => cells[id]);
  const mine = ++latest;
  chips(shown);
  waiting = waiting.then(() => mine === latest && drawCurves(shown)).then(() => mine === latest && drawLandscapes(shown))
    .catch((error) => (one("#curves .status").textContent = `This browser cannot draw the plots: ${error.message}.`));
  return waiting;
}
one("#landscapes form").addEventListener("change", draw);
dark.addEventListener("change", draw);

function resized(size) {
  for (const panel of document.querySelectorAll(".js-plotly-plot")) window.Plotly.relayout(panel, size);
}
window.addEventListener("beforeprint", () => {
  resized({ autosize: false, width: 320, height: 290 }); // three beside each other on A4
  document.querySelectorAll(".notes").forEach((notes) => (notes.open = true));
});
window.addEventListener("afterprint", () => resized({ autosize: true, width: null, height: null }));

// The other tables

function section(id, columnsOf, rows, order, nothing) {
  if (!rows.length) return void (one(`#${id} .status`).textContent = nothing);
  const table = el("table");
  const label = one(`#h-${id}`).textContent;
  const place = one(`#${id} .grid`);
  const form = el("form", { class: "controls", role: "search", "aria-label": label });
  form.addEventListener("submit", (event) => event.preventDefault());
  place.append(form, el("div", { class: "box", role: "region", "aria-label": `${label}, scrolls sideways`, tabindex: "0" }, table));
  form.append(searchBox(grid(table, columnsOf, rows, order)));
}
const field = (name, title, more = {}) => ({ title, value: (row) => row[name], ...more });
const number = (name, title, digits, more = {}) => ({ title, number: true, value: (row) => row[name], text: (row) => fixed(row[name], digits), ...more });
const eps = { title: "eps", number: true, value: (row) => parseFloat(row.eps), text: (row) => row.eps };
const side = (end) => (row) => method({ method: row[`method_${end}`], variant: row[`variant_${end}`] });
const small = (p) => (none(p) ? "" : p < 0.001 ? "< 0.001" : p.toFixed(3));

function otherTables() {
  section("paper", [
    field("table", "Table"), field("method", "Method"), field("dataset", "Data set"), field("model", "Model"), eps,
    { title: "Metric", value: (row) => heading(row.metric) }, number("paper", "Paper", 1), { ...number("ours", "Ours", 1), text: (row) => plus(row.ours, row.std) },
    number("gap", "Gap", 1), { title: "95 %", number: true, value: (row) => row.low, text: (row) => interval(row.low, row.high) },
    number("n_seeds", "Seeds", 0), number("n_images", "Images", 0),
    { title: "Verdict", value: (row) => row.verdict, node: (row) => el("span", {}, verdictMark(row.verdict)) }, field("reason", "Why", { className: "wide" }),
  ], verdicts, [[0, "asc"]], "Nothing has been compared: verdicts.csv is missing or empty.");

  section("pairs", [
    field("dataset", "Data set"), field("model", "Model"), eps, { title: "Attack", value: (row) => heading(row.attack) }, { title: "a", value: side("a") }, { title: "b", value: side("b") },
    number("difference", "a − b", 2), { title: "95 %", number: true, value: (row) => row.low, text: (row) => interval(row.low, row.high, 2) },
    number("only_a", "only a", 0), number("only_b", "only b", 0),
    { title: "p", number: true, value: (row) => row.p, text: (row) => small(row.p) },
    { title: "p adjusted", number: true, value: (row) => row.p_adjusted, text: (row) => small(row.p_adjusted) },
    number("n_seeds", "Seeds", 0), number("n_images", "Images", 0), number("more_seeds", "more seeds", 0, { help: "how many more seeds it would take to tell" }),
    number("more_images", "more images", 0, { help: "or how many more images" }),
  ], pairs, [[0, "asc"], [1, "asc"], [2, "asc"], [3, "asc"]], "No pair has been compared: pairs.csv is missing or empty.");
}

// Start: the leaderboard first, the rest when the browser has time

const board = grid(one("#cells"), columns, cells, [[3, "asc"], [4, "asc"], [5, "asc"], [10, "desc"]]);
filters(board);
if (!cells.length) one("#leaderboard .box").before(el("p", { class: "empty" }, "There is no run: measured.csv is missing or empty."));
for (const cell of board.rows({ order: "applied" }).data().toArray().slice(0, 3)) chosen.add(cell.id);
tick();
(window.requestIdleCallback ?? setTimeout)(() => {
  otherTables();
  draw().then(() => document.documentElement.setAttribute("data-ready", ""));
});
