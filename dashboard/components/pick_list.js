// A table whose rows are chosen by click or key, sorted by its headings. Text is set as text, never as markup.
const SVG = "http://www.w3.org/2000/svg";
const orders = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".picks");
  for (const [name, colour] of Object.entries(data.palette)) root.style.setProperty(`--${name}`, colour);
  root.style.setProperty("--columns", data.columns.map((column) => column.width).join(" "));
  const order = orders.get(root) ?? { column: -1, down: true };
  orders.set(root, order);
  const choose = (id) => setTriggerValue("selected", id);
  const draw = () => {
    const focused = root.getRootNode().activeElement;
    const [row, heading] = [focused?.dataset?.row, focused?.dataset?.column];
    const rows = order.column < 0 ? data.rows : [...data.rows].sort((a, b) => compared(a.cells[order.column], b.cells[order.column]) * (order.down ? -1 : 1));
    root.replaceChildren(headings(data, order, draw), ...rows.map((each) => line(each, data, choose)));
    if (row !== undefined) [...root.children].find((each) => each.dataset.row === row)?.focus();
    if (heading !== undefined) root.querySelector(`[data-column="${heading}"]`)?.focus();
  };
  draw();
}

function headings(data, order, draw) {
  const head = element("div", "heads");
  data.columns.forEach((column, index) => {
    const button = element("button", `head ${column.numeric ? "numeric" : ""}`, column.name);
    button.type = "button";
    button.dataset.column = index;
    if (order.column === index) button.append(element("span", "arrow", order.down ? " ↓" : " ↑"));
    button.setAttribute("aria-label", `Sort by ${column.name}`);
    button.onclick = () => {
      order.down = order.column === index ? !order.down : true;
      order.column = index;
      draw();
    };
    head.append(button);
  });
  return head;
}

function line(row, data, choose) {
  const button = element("button", `pick ${row.selected ? "selected" : ""}`);
  button.type = "button";
  button.dataset.row = row.id;
  button.setAttribute("aria-pressed", row.selected);
  button.onclick = () => choose(row.id);
  row.cells.forEach((cell, index) => {
    const column = data.columns[index];
    const made = element("span", `cell ${cell.tone ?? ""} ${column.numeric ? "numeric" : ""} ${column.main ? "main" : ""}`);
    made.dataset.name = column.name;
    if (cell.bars) made.append(bars(cell.bars));
    else made.append(element("span", "text", cell.text));
    if (cell.note) made.append(element("span", "note", cell.note));
    made.title = cell.note ? `${cell.text}\n${cell.note}` : cell.text;
    button.append(made);
  });
  button.setAttribute("aria-label", row.cells.map((cell, index) => (cell.text ? `${data.columns[index].name} ${cell.text}` : "")).filter(Boolean).join(", "));
  return button;
}

function bars(values) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${values.length} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  values.forEach((value, index) => {
    if (!value) return;
    const bar = document.createElementNS(SVG, "rect");
    for (const [name, number] of Object.entries({ x: index + 0.1, y: 20 - Math.max(1.6, value * 20), width: 0.8, height: Math.max(1.6, value * 20) })) bar.setAttribute(name, number);
    svg.append(bar);
  });
  return svg;
}

function compared(a, b) {
  const [x, y] = [a.sort ?? a.text, b.sort ?? b.text];
  return typeof x === "number" && typeof y === "number" ? x - y : String(y).localeCompare(String(x));
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== "") made.textContent = text;
  return made;
}
