"""The page at ``/``: asks the service for images from a browser. Everything it shows is set as text, never as HTML."""

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>medgan-ray</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }
form { display: grid; grid-template-columns: 7rem 1fr; gap: .5rem 1rem; align-items: center; }
input, select, button { font: inherit; padding: .3rem .5rem; }
button { grid-column: 2; justify-self: start; }
#images { display: flex; flex-wrap: wrap; gap: .5rem; margin-top: 1rem; }
img { width: 8rem; image-rendering: pixelated; }
#said, .forced { color: #a00; min-height: 1.5em; }
</style>
<h1>Synthetic scans</h1>
<p>Made by a generator; of nobody. Not a medical device.</p>
<form>
<label for="key">API key</label><input id="key" type="password" autocomplete="off">
<label for="model">Model</label><select id="model"></select>
<label for="label">Label</label><select id="label"></select>
<label for="seed">Seed</label><input id="seed" type="number" min="0" value="0">
<label for="n">Images</label><input id="n" type="number" min="1" max="16" value="8">
<button>Generate</button>
</form>
<p id="gate"></p>
<p id="said" role="status"></p>
<div id="images"></div>
<script>
"use strict";
const at = id => document.getElementById(id);
let models = [];
const headers = () => ({"Content-Type": "application/json",
  ...(at("key").value ? {Authorization: "Bearer " + at("key").value} : {})});
function option(value, text) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  return made;
}
function gate(model) {
  const verdict = model.verdict === "none" ? "not evaluated" : model.verdict;
  at("gate").className = model.forced ? "forced" : "";
  at("gate").textContent = !model.release ? "From a run: not through the release gate."
    : "Version " + model.release + ", release gate: " + verdict
      + (model.forced ? ". Published against the gate: " + model.forced : "") + ".";
}
function labels() {
  const model = models.find(m => m.name === at("model").value) || {classes: []};
  at("label").replaceChildren(option("", "any"), ...(model.classes || []).map(c => option(c, c)));
  gate(model);
}
async function explain(answer) {
  try { return (await answer.json()).detail; } catch { return "HTTP " + answer.status; }
}
async function list() {
  const answer = await fetch("v1/models", {headers: headers()});
  if (!answer.ok) { at("said").textContent = await explain(answer); return; }
  at("said").textContent = "";
  models = (await answer.json()).models;
  at("model").replaceChildren(...models.map(m => option(m.name, m.name)));
  labels();
}
at("key").addEventListener("change", list);
at("model").addEventListener("change", labels);
document.querySelector("form").addEventListener("submit", async event => {
  event.preventDefault();
  at("said").textContent = "";
  const shown = [];
  for (let i = 0; i < +at("n").value; i++) {
    const ask = {model: at("model").value, seed: +at("seed").value + i};
    if (at("label").value) ask.label = at("label").value;
    const answer = await fetch("v1/generate", {method: "POST", headers: headers(), body: JSON.stringify(ask)});
    if (!answer.ok) { at("said").textContent = await explain(answer); return; }
    const image = document.createElement("img");
    image.alt = "synthetic scan, seed " + answer.headers.get("X-Seed");
    image.src = URL.createObjectURL(await answer.blob());
    shown.push(image);
    at("images").replaceChildren(...shown);
  }
});
list();
</script>
</html>
"""
