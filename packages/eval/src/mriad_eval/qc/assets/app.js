// The quality-control page: tables, pictures, keys and verdicts. Text from the data is only ever set as text.
"use strict";

(() => {
  const page = window.QC_PAGE;
  const $ = (id) => document.getElementById(id);
  const cases = page.cases;
  const verdicts = QCVerdicts(page.identity, cases.map((one) => one.id));
  const of = verdicts.of;
  const state = { at: 0, tab: "overview", look: "mosaic", mode: "contours", structure: "", sort: null, list: cases.map((_, i) => i) };

  function el(tag, options = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "class") made.className = value;
      else if (name === "on") for (const [event, f] of Object.entries(value)) made.addEventListener(event, f);
      else made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  function number(value) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    return value.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3).replace("-", "−");
  }

  // ---- verdicts -------------------------------------------------------------------------------------------------

  function warn(text) {
    $("warning").textContent = text;
    $("warning").hidden = false;
  }

  function judge(change) {
    verdicts.put(cases[state.at].id, change);
    if (!verdicts.kept()) warn("This browser keeps no verdicts here: save the list before you close the page.");
    judged();
  }

  async function load(file) {
    try {
      const [count, others] = verdicts.load(await file.text());
      $("load-state").textContent = `${count} loaded` + (others ? `, ${others} of other cases left out` : "");
    } catch (error) {
      $("load-state").textContent = "cannot be read: " + error.message;
    }
    judged();
    openExport();
  }

  function judged() {
    const all = cases.map((one) => of(one.id).verdict);
    const failed = all.filter((v) => v === "fail").length, done = all.filter((v) => v).length;
    $("progress").replaceChildren(
      el("span", {}, el("b", {}, `${done}`), ` of ${cases.length} judged`),
      el("span", { class: "pass" }, `✓ ${done - failed}`), el("span", { class: "fail" }, `✕ ${failed}`));
    const mine = of(cases[state.at] ? cases[state.at].id : "");
    $("pass").setAttribute("aria-pressed", mine.verdict === "pass");
    $("fail").setAttribute("aria-pressed", mine.verdict === "fail");
    if (document.activeElement !== $("comment")) $("comment").value = mine.comment;
    $("judged").textContent = mine.time ? "last change " + mine.time.replace("T", " ").replace("Z", " UTC") : "";
    if (state.tab === "overview") tableOfCases();
  }

  // ---- overview -------------------------------------------------------------------------------------------------

  // "miss", "empty", "incomplete: why"
  function badge(note) {
    if (!note) return null;
    const quiet = note === "empty" || note.startsWith("incomplete");
    return el("span", { class: "badge " + (quiet ? "quiet" : "bad"), title: note }, note.split(":")[0]);
  }

  const metricName = (metric) => metric.key + (metric.unit && metric.unit !== "1" ? ` (${metric.unit})` : "");

  function summary() {
    const many = new Set(page.summary.map((s) => s.reference)).size > 1;
    const partly = page.summary.some((s) => s.incomplete);
    const heads = ["metric", "structure", ...(many ? ["reference"] : []), "mean ± SD", "n", "misses", "false positives",
      ...(partly ? ["incomplete"] : []), "with worst"];
    const from = many ? 3 : 2;
    const rows = page.summary.map((s) => {
      const mean = s.mean === null ? "–" : number(s.mean) + (s.sd === null ? "" : " ± " + number(s.sd));
      const cells = [s.metric + (s.unit ? ` (${s.unit})` : ""), s.structure, ...(many ? [s.reference] : []), mean,
        `${s.n}/${s.total}`, `${s.misses}`, `${s.false_positives}`,
        ...(partly ? [`${s.incomplete}`] : []), number(s.with_worst)];
      return el("tr", {}, ...cells.map((text, i) => el("td", { class: i >= from ? "number" : "name" }, text)));
    });
    $("summary").replaceChildren(
      el("thead", {}, el("tr", {}, ...heads.map((h, i) => el("th", { class: i >= from ? "number" : "" }, h)))), el("tbody", {}, ...rows));
    $("summary-note").textContent = page.summary.length
      ? "n: values that are defined, of all cases where there was something to find or something was found. With worst: failures at their worst value; for metrics with a best value, the mean size of the error."
      : "Nothing was measured: there is no reference.";
    $("summary").hidden = !page.summary.length;
  }

  function firstLooks() {
    const ranked = [[`Worst by ${page.ranked_by}`, page.worst], [`Median by ${page.ranked_by}`, page.median]];
    const first = [["First cases", cases.map((_, at) => at).slice(0, 6)]];
    const groups = (page.worst.length ? ranked : first).map(([name, places]) => {
      const cards = places.filter((at) => cases[at].picture).map((at) => {
        const one = cases[at];
        const values = Object.entries(one.values).map(([s, v]) => [s, v[page.ranked_by]]).filter(([, v]) => v);
        const text = values.slice(0, 4).map(([s, v]) => `${s} ${number(v[0])}${v[1] ? " " + v[1] : ""}`).join(", ");
        return el("button", { type: "button", class: "card", on: { click: () => review(at) } },
          el("img", { src: picture(one), alt: "slices with contours", loading: "lazy" }),
          el("span", {}, el("b", {}, one.id), el("span", { class: "small" }, text ? `${page.ranked_by}: ${text}` : "")));
      });
      return cards.length ? [el("h2", {}, name), el("div", { class: "cards" }, ...cards)] : [];
    });
    $("first-looks").replaceChildren(...groups.flat());
  }

  function picture(one) {
    return one.mosaic || `mosaics/${String(one.picture).padStart(4, "0")}.png`;
  }

  const columns = [
    { name: "case", of: (one) => one.id }, { name: "person", of: (one) => one.person },
    { name: "contrast", of: (one) => one.contrast }, { name: "domain", of: (one) => one.domain },
    { name: "verdict", of: (one) => of(one.id).verdict },
  ];

  function value(one, metric) {
    const own = one.values[state.structure];
    return own && own[metric.key] ? own[metric.key] : [null, "", null];
  }

  // How bad a value is: larger is worse; null sorts last.
  function badness(one, metric) {
    const counted = value(one, metric)[2];
    return counted === null || counted === undefined ? null : metric.direction === "higher" ? -counted : counted;
  }

  function sorted(places) {
    const sort = state.sort;
    if (!sort) return places;
    const key = (at) => (sort.metric ? badness(cases[at], sort.metric) : sort.column.of(cases[at]));
    const compare = (a, b) => {
      const x = key(a), y = key(b);
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      const way = sort.metric ? y - x : x.localeCompare(y, undefined, { numeric: true });
      return way * (sort.up ? 1 : -1) || a - b;
    };
    return [...places].sort(compare);
  }

  function tableOfCases() {
    const word = $("find").value.trim().toLowerCase(), shown = $("shown").value;
    const used = columns.filter((c) => c.name === "case" || c.name === "verdict" || cases.some((one) => c.of(one) && c.of(one) !== one.id));
    const fits = (one) => {
      const mine = of(one.id);
      const asked = { all: true, open: !mine.verdict, pass: mine.verdict === "pass", fail: mine.verdict === "fail", comment: Boolean(mine.comment) };
      return asked[shown] && [one.id, one.person, one.contrast, one.domain].some((text) => text.toLowerCase().includes(word));
    };
    state.list = sorted(cases.map((_, at) => at).filter((at) => fits(cases[at])));
    const head = (name, sort, kind) => {
      const mine = state.sort && state.sort.name === name;
      const turn = () => { state.sort = { ...sort, name, up: mine ? !state.sort.up : true }; tableOfCases(); };
      const way = mine ? ((sort.metric && sort.metric.direction === "higher") === state.sort.up || (!sort.metric && state.sort.up) ? "ascending" : "descending") : "none";
      return el("th", { class: kind, "aria-sort": way }, el("button", { type: "button", on: { click: turn } }, name));
    };
    const heads = [...used.map((c) => head(c.name, { column: c }, "")),
      ...page.metrics.map((m) => head(metricName(m), { metric: m }, "number"))];
    const rows = state.list.map((at) => {
      const one = cases[at];
      const cells = used.map((c) => {
        const text = c.of(one);
        const cell = el("td", { class: c.name === "case" ? "name" : text === "pass" || text === "fail" ? text : "" },
          c.name === "verdict" && text ? (text === "pass" ? "✓ pass" : "✕ fail") : text);
        if (c.name === "case" && !one.picture) cell.append(el("span", { class: "badge quiet" }, "no picture"));
        return cell;
      });
      const numbers = page.metrics.map((m) => {
        const [v, note] = value(one, m);
        return el("td", { class: "number" }, number(v), badge(note));
      });
      const open = () => review(at);
      return el("tr", { class: "link", tabindex: "0", on: { click: open, keydown: (e) => { if (e.key === "Enter") open(); } } }, ...cells, ...numbers);
    });
    $("cases").replaceChildren(el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows));
    $("count").textContent = `${state.list.length} of ${cases.length}`;
  }

  // ---- review ---------------------------------------------------------------------------------------------------

  function tab(name) {
    state.tab = name;
    for (const one of ["overview", "review"]) {
      $(one).hidden = one !== name;
      $("tab-" + one).setAttribute("aria-selected", one === name);
    }
    if (name === "overview") tableOfCases();
    else show();
  }

  // Go on where one was, or with the first case that is listed.
  function goOn() {
    if (!state.list.includes(state.at) && state.list.length) state.at = state.list[0];
    tab("review");
  }

  function review(at) {
    state.at = at;
    tab("review");
  }

  // The wanted case moves at once; what is drawn follows, and only the latest is drawn.
  function step(by) {
    const order = state.list.includes(state.at) ? state.list : cases.map((_, at) => at);
    const next = order[order.indexOf(state.at) + by];
    if (next === undefined) return;
    review(next);
  }

  function show() {
    const one = cases[state.at];
    if (!one) return;
    const order = state.list.includes(state.at) ? state.list : cases.map((_, at) => at);
    const place = order.indexOf(state.at);
    $("place").textContent = `${place + 1} of ${order.length}`;
    $("previous").disabled = place === 0;
    $("next").disabled = place === order.length - 1;
    $("case-name").textContent = one.id;
    $("case-facts").textContent = [one.person !== one.id && one.person ? "person " + one.person : "", one.contrast, one.domain].filter(Boolean).join(" · ");
    const structures = page.structures.filter((s) => one.values[s]);
    const rows = page.metrics.map((m) => el("tr", {}, el("td", {}, metricName(m)), ...structures.map((s) => {
      const [v, note] = one.values[s][m.key] || [null, ""];
      return el("td", { class: "number" }, number(v), badge(note));
    })));
    $("scores").replaceChildren(...(structures.length ? [el("thead", {}, el("tr", {}, el("th", {}, "metric"),
      ...structures.map((s) => el("th", { class: "number" }, s)))), el("tbody", {}, ...rows)] : []));
    judged();
    look();
    for (const near of [order[place + 1], order[place + 2], order[place - 1]]) {
      if (near !== undefined && cases[near].picture) new Image().src = picture(cases[near]);
    }
  }

  function pressed(box, name) {
    for (const button of $(box).children) button.setAttribute("aria-pressed", button.dataset.name === name);
  }

  function look() {
    const one = cases[state.at];
    const volume = state.look === "volume";
    pressed("looks", state.look);
    pressed("modes", state.mode);
    for (const id of ["modes", "zoom-label", "render-label"]) $(id).hidden = !volume;
    $("show-reference").parentElement.hidden = !volume || state.mode === "difference";
    $("show-prediction").parentElement.hidden = !volume || state.mode === "difference" || state.mode === "soft";
    $("mosaic").hidden = volume || !one.picture;
    $("canvas-box").hidden = !volume || !one.picture;
    legend();
    if (!one.picture) {
      $("state").textContent = one.problem ? "No picture: " + one.problem : page.viewer ? "This case has no picture on this page." : "The picture of this case is in the folder, not in this preview.";
    } else if (volume) {
      drawVolume(one);
    } else {
      $("state").textContent = "";
      $("mosaic").src = picture(one);
      $("mosaic").alt = "slices of " + one.id;
    }
  }

  async function drawVolume(one) {
    const want = { mode: state.mode, reference: $("show-reference").checked, prediction: $("show-prediction").checked, render: $("render").checked, zoom: $("zoom").checked };
    const box = $("canvas-box");
    if (QC.shown() !== one.picture) { $("state").textContent = "loading " + one.id + " …"; box.style.opacity = 0.25; }
    try {
      if (!(await QC.show($("gl"), one.picture, want, page.colours))) return;
      const facts = QC.facts(), lacks = (role) => !facts.has.includes(role);
      const told = [facts.bare ? "no scan was given" : "", lacks("reference") ? "no reference, or an empty one" : "", lacks("prediction") ? "no prediction, or an empty one" : "",
        state.mode === "soft" && lacks("soft") ? "the prediction is not soft" : ""];
      $("state").textContent = told.filter(Boolean).join("; ");
      box.style.opacity = 1;
      document.body.dataset.drawn = one.picture + " " + state.mode;
    } catch (error) {
      const why = String(error && error.message ? error.message : error);
      $("state").textContent = /webgl/i.test(why) ? "The 3D viewer needs WebGL2, which this browser does not offer. The mosaics work without it." : "The 3D viewer failed: " + why;
      box.style.opacity = 0;
    }
  }

  function legend() {
    const dot = (kind, text) => el("span", {}, el("i", { class: "dot " + kind }), text);
    const both = [dot("reference", "reference"), dot("prediction", "prediction")];
    const parts = [dot("both", "both"), dot("prediction", "only the prediction"), dot("reference", "only the reference")];
    if (page.structures.length > 1) parts.push(dot("other", "another structure"));
    const ramp = el("span", {}, "0 ", el("i", { class: "ramp" }), "1 predicted value");
    const shown = { contours: both, fill: both, difference: parts, soft: [ramp, both[0]] };
    $("legend").replaceChildren(...(state.look === "volume" ? [...shown[state.mode], el("span", {}, "drag to move, wheel to scroll slices; the person's left is on the right")] : []));
  }

  // ---- keys and buttons -----------------------------------------------------------------------------------------

  function flip(id) {
    $(id).checked = !$(id).checked;
    look();
  }

  const MODES = ["contours", "fill", "difference", "soft"];
  const lookAt = (name) => { if (page.viewer || name === "mosaic") { state.look = name; look(); } };
  const mode = (name) => { state.mode = name; state.look = "volume"; look(); };
  const keys = {
    n: () => step(1), ArrowRight: () => step(1), p: () => step(-1), ArrowLeft: () => step(-1),
    y: () => judge({ verdict: "pass" }), f: () => judge({ verdict: "fail" }), u: () => judge({ verdict: "" }),
    c: () => $("comment").focus(), v: () => lookAt(state.look === "volume" ? "mosaic" : "volume"),
    d: () => page.viewer && mode(MODES[(MODES.indexOf(state.mode) + (state.look === "volume")) % MODES.length]),
    r: () => flip("show-reference"), s: () => flip("show-prediction"), z: () => flip("zoom"), o: () => tab("overview"),
  };

  // Before NiiVue, which listens on its canvas.
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const field = event.target.closest && event.target.closest("input, select, textarea");
    if (field) {
      if (field === $("comment") && (event.key === "Enter" || event.key === "Escape")) { event.preventDefault(); field.blur(); }
      const typing = field.type !== "checkbox";
      if (typing) { event.stopImmediatePropagation(); return; }
    }
    if (event.key === "?") { event.preventDefault(); event.stopImmediatePropagation(); $("help-box").showModal(); return; }
    const act = Object.hasOwn(keys, event.key) ? keys[event.key] : null;
    if (!act) { if (event.target === $("gl")) event.stopImmediatePropagation(); return; }
    if (state.tab === "overview" && !["n", "ArrowRight"].includes(event.key)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (state.tab === "overview") goOn(); else act();
  }, true);

  function openExport() {
    $("export-text").value = verdicts.csv();
    if (!$("export-box").open) $("export-box").showModal();
  }

  function segment(box, name, text, act) {
    $(box).append(el("button", { type: "button", "data-name": name, on: { click: act } }, text));
  }

  function start() {
    document.title = page.title;
    $("title").textContent = page.title;
    $("note").textContent = page.note;
    for (const [name, colour] of Object.entries(page.colours)) document.documentElement.style.setProperty("--" + name, colour);
    for (const s of page.structures) $("structure").append(el("option", { value: s }, s));
    state.structure = page.structures[0] || "";
    $("structure").parentElement.hidden = page.structures.length < 2;
    segment("looks", "mosaic", "Mosaic", () => lookAt("mosaic"));
    $("looks").hidden = !page.viewer;
    if (page.viewer) segment("looks", "volume", "3D viewer", () => lookAt("volume"));
    for (const name of MODES) segment("modes", name, name[0].toUpperCase() + name.slice(1), () => mode(name));
    for (const id of ["show-reference", "show-prediction", "zoom", "render"]) $(id).addEventListener("change", look);
    $("tab-overview").addEventListener("click", () => tab("overview"));
    $("tab-review").addEventListener("click", goOn);
    $("next").addEventListener("click", () => step(1));
    $("previous").addEventListener("click", () => step(-1));
    $("pass").addEventListener("click", () => judge({ verdict: "pass" }));
    $("fail").addEventListener("click", () => judge({ verdict: "fail" }));
    $("comment").addEventListener("input", () => judge({ comment: $("comment").value.trim() }));
    $("structure").addEventListener("change", () => { state.structure = $("structure").value; tableOfCases(); });
    $("shown").addEventListener("change", tableOfCases);
    $("find").addEventListener("input", tableOfCases);
    $("export").addEventListener("click", openExport);
    $("help").addEventListener("click", () => $("help-box").showModal());
    $("save-csv").addEventListener("click", () => verdicts.save("qc-verdicts.csv", verdicts.csv(), "text/csv"));
    $("save-json").addEventListener("click", () => verdicts.save("qc-verdicts.json", verdicts.json(), "application/json"));
    $("load").addEventListener("change", () => { if ($("load").files[0]) load($("load").files[0]); });
    for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => $(button.dataset.close).close());
    window.addEventListener("storage", judged); // another window of this page has judged a case
    if (!verdicts.kept()) warn("Verdicts are not kept in this view; open the folder's index.html to judge cases.");
    summary();
    firstLooks();
    tab("overview");
    judged();
    document.body.dataset.ready = "yes";
  }

  start();
})();
