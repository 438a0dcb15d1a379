const assets = JSON.parse(document.getElementById("asset-data").textContent);
const find = (id) => document.getElementById(id);
const viewer = find("viewer");
const cards = [...document.querySelectorAll(".card")];
let current = -1;

function element(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function figure(source, caption, alt) {
  const box = element("figure");
  const image = element("img");
  image.src = source;
  image.alt = alt;
  box.append(image, element("figcaption", caption));
  return box;
}

function showModel(index, asset) {
  const data = find(`glb-${index}`);
  const link = find("download");
  const note = find("glb-note");
  link.hidden = !data;
  note.hidden = Boolean(data);
  note.textContent = asset.glb_note;
  if (!data) {
    viewer.removeAttribute("src");
    return;
  }
  viewer.src = `data:model/gltf-binary;base64,${data.textContent.trim()}`;
  viewer.alt = `3D model of ${asset.item_id}`;
  link.href = viewer.src;
  link.download = `${asset.item_id.replace(/[^\w.-]+/g, "_")}.glb`;
}

function showDetail(asset) {
  find("detail-title").textContent = asset.item_id;
  const pictures = asset.input ? [figure(asset.input, "input", `input of ${asset.item_id}`)] : [];
  for (const [name, source] of asset.views) pictures.push(figure(source, name, `mesh seen from the ${name}`));
  find("detail-pictures").replaceChildren(...pictures);
  find("detail-prompt").textContent = asset.prompt;
  find("detail-prompt").hidden = !asset.prompt;
  find("detail-notes").replaceChildren(...asset.notes.map((note) => element("li", note)));
  const facts = asset.facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]);
  find("detail-facts").replaceChildren(...facts);
}

function select(index, focus = false) {
  if (index < 0 || index >= assets.length || index === current) return;
  cards[current]?.setAttribute("aria-current", "false");
  current = index;
  cards[index].setAttribute("aria-current", "true");
  if (focus) cards[index].focus();
  showModel(index, assets[index]);
  showDetail(assets[index]);
  find("previous").disabled = index === 0;
  find("next").disabled = index === assets.length - 1;
}

function resetView() {
  viewer.cameraOrbit = "35deg 72deg auto";
  viewer.cameraTarget = "auto auto auto";
  viewer.fieldOfView = "auto";
  viewer.resetTurntableRotation?.(0);
}

function perRow() {
  const top = (card) => card.getBoundingClientRect().top;
  const second = cards.findIndex((card) => top(card) !== top(cards[0]));
  return second > 0 ? second : 1;
}

if (assets.length) {
  cards.forEach((card, index) => card.addEventListener("click", () => select(index)));
  find("gallery").addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: perRow(), ArrowUp: -perRow() };
    const step = steps[event.key];
    if (step === undefined) return;
    event.preventDefault();
    select(current + step, true);
  });
  find("previous").addEventListener("click", () => select(current - 1));
  find("next").addEventListener("click", () => select(current + 1));
  find("reset").addEventListener("click", resetView);
  find("turn").addEventListener("click", (event) => {
    const on = event.currentTarget.getAttribute("aria-pressed") !== "true";
    event.currentTarget.setAttribute("aria-pressed", String(on));
    viewer.autoRotate = on;
    viewer.setAttribute("auto-rotate-delay", "0");
  });
  select(0);
}
