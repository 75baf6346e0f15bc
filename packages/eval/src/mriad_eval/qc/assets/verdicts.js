// What a person said of cases: kept as a draft in this browser, exported as the list that is the record.
"use strict";

// Every page opened from disk shares one storage, so the key holds the page's own identity.
window.QCVerdicts = (identity, ids) => {
  const store = "mriad-qc:" + identity;
  const known = new Set(ids);
  const WORDS = ["pass", "fail", ""];
  let memory = new Map(); // where the browser keeps nothing
  let works = true;

  // A map, not an object: a case may be called "__proto__".
  function all() {
    if (!works) return memory;
    try {
      memory = new Map(JSON.parse(localStorage.getItem(store) || "[]"));
    } catch (error) {
      if (!(error instanceof SyntaxError || error instanceof TypeError)) works = false;
    }
    return memory;
  }

  function keep(verdicts) {
    memory = verdicts;
    try {
      localStorage.setItem(store, JSON.stringify([...verdicts]));
    } catch {
      works = false;
    }
  }

  function of(id) {
    return all().get(id) || { verdict: "", comment: "", time: "" };
  }

  function put(id, change) {
    const verdicts = all(); // read anew: another window of this page may have written
    const now = { ...of(id), ...change, time: new Date().toISOString().slice(0, 19) + "Z" };
    if (now.verdict || now.comment) verdicts.set(id, now);
    else verdicts.delete(id);
    keep(verdicts);
  }

  function list() {
    const verdicts = all();
    return ids.filter((id) => verdicts.has(id)).map((id) => {
      const { verdict, comment, time } = verdicts.get(id);
      return { case: id, verdict, comment, time };
    });
  }

  function csv() {
    const cell = (text) => (/[",\r\n]|^\s|\s$/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text);
    const lines = list().map((one) => [one.case, one.verdict, one.comment, one.time].map(cell).join(","));
    return ["case,verdict,comment,time", ...lines, ""].join("\n");
  }

  function json() {
    return JSON.stringify({ format: 1, kind: "qc-verdicts", page: identity, verdicts: list() }, null, 1) + "\n";
  }

  function load(text) {
    const told = JSON.parse(text);
    if (told.kind !== "qc-verdicts" || !Array.isArray(told.verdicts)) throw new Error("not a list of verdicts");
    const verdicts = all();
    const mine = told.verdicts.filter((one) => known.has(one.case) && WORDS.includes(one.verdict));
    for (const one of mine) {
      verdicts.set(one.case, { verdict: one.verdict, comment: String(one.comment || ""), time: String(one.time || "") });
    }
    keep(verdicts);
    return [mine.length, told.verdicts.length - mine.length];
  }

  function save(name, text, type) {
    const link = document.createElement("a");
    link.download = name;
    link.href = URL.createObjectURL(new Blob([text], { type }));
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  all();
  return { of, put, list, csv, json, load, save, kept: () => works };
};
