// Health of services, a row each with its small lines. Text is set as text, never as markup.
const SVG = "http://www.w3.org/2000/svg";

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".cards");
  for (const [name, colour] of Object.entries(data.palette)) root.style.setProperty(`--${name}`, colour);
  const focused = root.getRootNode().activeElement?.dataset?.service;
  root.replaceChildren(...data.services.map((service) => card(service, (id) => setTriggerValue("selected", id))));
  if (focused) [...root.children].find((each) => each.dataset.service === focused)?.focus();
}

function card(service, choose) {
  const button = element("button", `card ${service.grade}`);
  button.type = "button";
  button.dataset.service = service.name;
  button.onclick = () => choose(service.name);
  const health = element("span", "health");
  health.append(element("span", "glyph", service.glyph), element("b", "", service.score));
  const name = element("span", "name");
  name.append(element("strong", "", service.name), element("span", "reason", service.reason));
  button.append(health, name);
  for (const metric of service.metrics) {
    const cell = element("span", `metric ${metric.tone}`);
    const words = element("span", "words");
    words.append(element("small", "", metric.name), element("b", "", metric.value), element("em", metric.changeTone, metric.change));
    cell.append(words, line(metric.points));
    button.append(cell);
  }
  button.setAttribute("aria-label", `${service.name}, health ${service.score || "unknown"}. ${service.metrics.map((metric) => `${metric.name} ${metric.value}`).join(", ")}. ${service.reason}`);
  return button;
}

function line(points) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 26");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const step = 100 / Math.max(points.length - 1, 1);
  let path = "";
  let drawing = false;
  points.forEach((value, index) => {
    if (value === null) { drawing = false; return; }
    path += `${drawing ? "L" : "M"}${(index * step).toFixed(1)} ${(24 - value * 22).toFixed(1)}`;
    if (!drawing && (index === points.length - 1 || points[index + 1] === null)) path += "h0.8";
    drawing = true;
  });
  const stroke = document.createElementNS(SVG, "path");
  stroke.setAttribute("d", path || "M0 24");
  svg.append(stroke);
  return svg;
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== "") made.textContent = text;
  return made;
}
