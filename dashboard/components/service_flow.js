// The service graph: draws what figures/service_flow.py placed. Text is set as text, never as markup.
const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  database: "M1 3c0-1.1 2.2-2 5-2s5 .9 5 2v6c0 1.1-2.2 2-5 2s-5-.9-5-2zM1 3c0 1.1 2.2 2 5 2s5-.9 5-2",
  messaging: "M1 2h10v2.4H1zM1 5.3h10v2.4H1zM1 8.6h10V11H1z",
  external: "M6 1a5 5 0 1 0 .01 0zM1 6h10M6 1c-3.4 3-3.4 7 0 10M6 1c3.4 3 3.4 7 0 10",
};
const views = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".flow");
  const signature = JSON.stringify(data);
  const view = views.get(root) ?? { scale: 0, signature: "" };
  view.choose = (id) => setTriggerValue("selected", id);
  views.set(root, view);
  if (view.signature !== signature) {
    view.signature = signature;
    draw(root, data, view);
  }
}

function draw(root, data, view) {
  for (const [name, colour] of Object.entries(data.palette)) root.style.setProperty(`--${name}`, colour);
  const stage = root.querySelector(".stage");
  const tip = root.querySelector(".tip");
  stage.replaceChildren();
  const svg = add(stage, "svg", { viewBox: `0 0 ${data.width} ${data.height}`, role: "group" });
  svg.setAttribute("aria-label", `Service graph: ${data.nodes.length} nodes, ${data.edges.length} connections`);
  const arrows = add(svg, "defs");
  for (const kind of ["plain", "warn", "bad", "new", "lit"]) {
    const marker = add(arrows, "marker", {
      id: `head-${kind}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 9, markerHeight: 9,
      markerUnits: "userSpaceOnUse", orient: "auto-start-reverse", class: `head ${kind}`,
    });
    add(marker, "path", { d: "M0 0.6 8 4 0 7.4 2 4z" });
  }
  const edgeLayer = add(svg, "g");
  const labelLayer = add(svg, "g");
  const nodeLayer = add(svg, "g");
  const nodes = new Map();
  const edges = [];
  for (const edge of data.edges) edges.push(drawEdge(edgeLayer, labelLayer, edge, data.node));
  for (const node of data.nodes) nodes.set(node.id, drawNode(nodeLayer, node, data.node, node.id === data.selected));

  const light = (id) => {
    svg.classList.toggle("focused", id !== null);
    for (const { shape } of nodes.values()) shape.classList.remove("lit");
    for (const { edge, group, path, label } of edges) {
      const lit = id !== null && (edge.caller === id || edge.callee === id);
      group.classList.toggle("lit", lit);
      label?.classList.toggle("lit", lit);
      path.setAttribute("marker-end", `url(#head-${lit ? "lit" : headOf(edge)})`);
      if (lit) for (const end of [edge.caller, edge.callee]) nodes.get(end)?.shape.classList.add("lit");
    }
    if (id !== null) nodes.get(id)?.shape.classList.add("lit");
  };
  const rest = data.selected && nodes.has(data.selected) ? data.selected : null;
  light(rest);

  for (const { node, shape } of nodes.values()) {
    shape.addEventListener("pointerenter", (event) => { light(node.id); showTip(root, tip, event, node.id, node.rows, node.reason); });
    shape.addEventListener("pointerleave", () => { light(rest); tip.hidden = true; });
    shape.addEventListener("focus", () => light(node.id));
    shape.addEventListener("blur", () => light(rest));
    shape.addEventListener("click", () => view.choose(node.id === data.selected ? "" : node.id));
    shape.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        view.choose(node.id === data.selected ? "" : node.id);
      }
      const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
      if (step) {
        event.preventDefault();
        neighbour(nodes, node, step)?.focus();
      }
    });
  }
  for (const { edge, group, label } of edges) {
    for (const part of [group, label]) {
      part?.addEventListener("pointerenter", (event) => {
        group.classList.add("lit");
        showTip(root, tip, event, `${edge.caller} → ${edge.callee}`, edge.rows, "");
      });
      part?.addEventListener("pointerleave", () => {
        if (rest !== edge.caller && rest !== edge.callee) group.classList.remove("lit");
        tip.hidden = true;
      });
    }
  }

  const fitting = () => Math.max(0.62, Math.min(1.15, (stage.clientWidth - 4) / data.width));
  const zoom = (scale) => {
    view.scale = Math.max(0.25, Math.min(2.5, scale));
    svg.setAttribute("width", data.width * view.scale);
    svg.setAttribute("height", data.height * view.scale);
  };
  zoom(view.scale || fitting());
  root.querySelector("[data-zoom=in]").onclick = () => zoom(view.scale * 1.25);
  root.querySelector("[data-zoom=out]").onclick = () => zoom(view.scale / 1.25);
  root.querySelector("[data-zoom=fit]").onclick = () => {
    zoom(Math.min((stage.clientWidth - 4) / data.width, 1.15));
    view.scale = 0;
  };
  stage.onwheel = (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom((view.scale || fitting()) * Math.exp(-event.deltaY / 300));
  };
  dragToPan(stage);
  if (rest) nodes.get(rest).shape.scrollIntoView?.({ block: "nearest", inline: "nearest" });
}

function drawNode(layer, node, size, selected) {
  const shape = add(layer, "g", {
    class: `node ${node.grade} ${node.kind} ${selected ? "selected" : ""}`, transform: `translate(${node.x} ${node.y})`,
    tabindex: 0, role: "button",
  });
  shape.setAttribute("aria-pressed", selected);
  shape.setAttribute("aria-label", `${node.id}: ${node.rows.map((row) => row.join(" ")).join(", ")}. ${node.reason}`);
  shape.dataset.service = node.id;
  add(shape, "rect", { class: "body", width: size.width, height: size.height, rx: node.kind === "service" ? 7 : size.height / 2 });
  const left = node.kind === "service" ? 12 : 15;
  const first = size.compact ? 17 : 19;
  const glyph = add(shape, "text", { class: "glyph", x: left, y: first });
  glyph.textContent = node.glyph;
  if (ICONS[node.kind]) add(shape, "path", { class: "icon", d: ICONS[node.kind], transform: `translate(${left} ${first - 10})` });
  if (ICONS[node.kind]) glyph.remove();
  const name = add(shape, "text", { class: "name", x: left + 17, y: first });
  name.textContent = node.id;
  for (let text = node.id; text.length > 3 && name.getComputedTextLength() > size.width - left - 25; ) {
    text = text.slice(0, -Math.max(1, Math.floor(text.length / 12)));
    name.textContent = `${text}…`;
  }
  if (!size.compact) add(shape, "text", { class: "facts", x: left + 17, y: 35 }).textContent = node.facts;
  return { node, shape };
}

function drawEdge(layer, labels, edge, size) {
  const points = edge.points.map((point) => [...point]);
  const forward = points.at(-1)[0] > points[0][0];
  points[0][0] += forward ? size.width : 0;
  points.at(-1)[0] += forward ? -3 : size.width + 3;
  // A way-point stands for the full width of a node's column: the line runs level through it.
  const stops = points.flatMap(([x, y], index) =>
    index && index < points.length - 1 ? (forward ? [[x, y], [x + size.width, y]] : [[x + size.width, y], [x, y]]) : [[x, y]]);
  let d = `M${stops[0].join(" ")}`;
  for (let index = 1; index < stops.length; index++) {
    const [[fromX, fromY], [toX, toY]] = [stops[index - 1], stops[index]];
    const bend = (toX - fromX) / 2;
    d += ` C${fromX + bend} ${fromY} ${toX - bend} ${toY} ${toX} ${toY}`;
  }
  const group = add(layer, "g", { class: `edge ${edge.grade} ${edge.change}` });
  add(group, "path", { d, class: "reach" });
  const path = add(group, "path", { d, class: "line", "stroke-width": edge.width, "marker-end": `url(#head-${headOf(edge)})` });
  let label = null;
  if (edge.label) {
    const middle = path.getPointAtLength(path.getTotalLength() * 0.68);
    label = add(labels, "text", { class: `label ${edge.grade} ${edge.change}`, x: middle.x, y: middle.y - 5 });
    label.textContent = edge.label;
  }
  return { edge, group, path, label };
}

function headOf(edge) {
  return edge.change === "new" ? "new" : edge.grade === "warn" || edge.grade === "bad" ? edge.grade : "plain";
}

function neighbour(nodes, from, [right, down]) {
  let best = null;
  let least = Infinity;
  for (const { node, shape } of nodes.values()) {
    const along = (node.x - from.x) * right + (node.y - from.y) * down;
    const across = Math.abs((node.x - from.x) * down + (node.y - from.y) * right);
    if (along > 1 && along + 2 * across < least) [best, least] = [shape, along + 2 * across];
  }
  return best;
}

function showTip(root, tip, event, title, rows, reason) {
  tip.replaceChildren();
  const heading = document.createElement("strong");
  heading.textContent = title;
  const table = document.createElement("dl");
  for (const [name, value] of rows) {
    table.append(Object.assign(document.createElement("dt"), { textContent: name }));
    table.append(Object.assign(document.createElement("dd"), { textContent: value }));
  }
  tip.append(heading, table);
  if (reason) tip.append(Object.assign(document.createElement("p"), { textContent: reason }));
  tip.hidden = false;
  const frame = root.getBoundingClientRect();
  const left = Math.min(event.clientX - frame.left + 14, frame.width - tip.offsetWidth - 6);
  const top = event.clientY - frame.top + 16;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${top + tip.offsetHeight > frame.height ? Math.max(4, top - tip.offsetHeight - 30) : top}px`;
}

function dragToPan(stage) {
  let from = null;
  stage.onpointerdown = (event) => {
    if (event.pointerType === "mouse" && !event.target.closest(".node")) {
      from = [event.clientX + stage.scrollLeft, event.clientY + stage.scrollTop];
      stage.setPointerCapture(event.pointerId);
    }
  };
  stage.onpointermove = (event) => {
    if (from) [stage.scrollLeft, stage.scrollTop] = [from[0] - event.clientX, from[1] - event.clientY];
  };
  stage.onpointerup = stage.onpointercancel = () => { from = null; };
}

function add(parent, name, attributes = {}) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return parent.appendChild(element);
}
