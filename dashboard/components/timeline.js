// The timeline of one trace: rows are drawn as they scroll into sight, so thousands of spans cost no more than fifty.
// Text is set as text, never as markup.
const ROW = 26;
const OVERSCAN = 8;
const views = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".timeline");
  let view = views.get(root);
  if (!view || view.identity !== identityOf(data)) {
    view?.stop();
    view = new Timeline(root, data, identityOf(data));
    views.set(root, view);
  }
  view.choose = (id) => setTriggerValue("selected", id);
  view.update(data);
  return () => view.stop();
}

const identityOf = (data) => `${data.ids[0]} ${data.ids.length} ${data.duration}`;

class Timeline {
  constructor(root, data, identity) {
    this.identity = identity;
    this.root = root;
    this.data = data;
    this.find = (name) => root.querySelector(`.${name}`);
    this.from = 0;
    this.until = Math.max(data.duration, 0.001);
    this.active = Math.max(0, data.ids.indexOf(data.selected || data.origin));
    if (!data.selected) this.active = 0;
    this.collapsed = new Set();
    // A span's descendants follow it: they end where the depth comes back.
    this.ends = new Int32Array(data.ids.length);
    const open = [];
    for (let index = 0; index <= data.ids.length; index++) {
      while (open.length && (index === data.ids.length || data.depth[open.at(-1)] >= data.depth[index])) this.ends[open.pop()] = index;
      open.push(index);
    }
    this.matches = null;
    this.listen();
    this.resized = new ResizeObserver(() => this.paint());
    this.resized.observe(this.find("rows"));
    this.arrange();
    if (data.selected) this.reveal(this.active);
  }

  stop() { this.resized?.disconnect(); }

  update(data) {
    this.data = data;
    for (const [name, colour] of Object.entries(data.palette)) this.root.style.setProperty(`--${name}`, colour);
    if (!this.resized) return;
    this.resized.observe(this.find("rows"));
    this.paint();
  }

  listen() {
    const rows = this.find("rows");
    rows.onscroll = () => this.paint();
    rows.onkeydown = (event) => this.key(event);
    rows.onclick = (event) => this.click(event);
    rows.onwheel = (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const box = this.find("track").getBoundingClientRect();
      this.zoom(Math.exp(event.deltaY / 250), Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
    };
    this.find("search").oninput = (event) => this.search(event.target.value);
    this.find("search").onkeydown = (event) => { if (event.key === "Enter") this.nextMatch(); };
    this.find("collapse").onclick = () => {
      for (let index = 0; index < this.data.ids.length; index++) {
        if (this.ends[index] > index + 1 && this.data.depth[index] >= 1) this.collapsed.add(index);
      }
      this.arrange();
    };
    this.find("expand").onclick = () => { this.collapsed.clear(); this.arrange(); };
    this.find("reset").onclick = () => this.show(0, this.data.duration);
    this.find("failure").onclick = () => this.nextFailure();
    this.find("failure").hidden = !this.data.failed.some(Boolean);
    const map = this.find("map");
    let from = null;
    const at = (event) => {
      const box = map.getBoundingClientRect();
      return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * this.data.duration;
    };
    map.onpointerdown = (event) => { from = at(event); map.setPointerCapture(event.pointerId); };
    map.onpointermove = (event) => { if (from !== null) this.band(from, at(event)); };
    map.onpointerup = (event) => {
      if (from === null) return;
      const to = at(event);
      if (Math.abs(to - from) > this.data.duration / 200) this.show(Math.min(from, to), Math.max(from, to));
      else this.show(0, this.data.duration);
      from = null;
    };
    map.onpointercancel = () => { from = null; };
  }

  arrange() {
    this.visible = [];
    for (let index = 0; index < this.data.ids.length; index = this.collapsed.has(index) ? this.ends[index] : index + 1) this.visible.push(index);
    this.find("sizer").style.height = `${this.visible.length * ROW}px`;
    this.paint();
  }

  show(from, until) {
    const least = Math.max(this.data.duration / 1e5, 0.05);
    this.from = Math.max(0, from);
    this.until = Math.min(Math.max(this.data.duration, 0.001), Math.max(until, this.from + least));
    this.paint();
  }

  zoom(factor, at = 0.5) {
    const middle = this.from + (this.until - this.from) * at;
    const length = Math.min(this.data.duration, (this.until - this.from) * factor);
    const from = Math.min(Math.max(0, middle - length * at), this.data.duration - length);
    this.show(from, from + length);
  }

  paint() {
    const rows = this.find("rows");
    if (!rows || !rows.clientHeight) return;
    this.paintAxis();
    this.paintMap();
    const first = Math.max(0, Math.floor(rows.scrollTop / ROW) - OVERSCAN);
    const last = Math.min(this.visible.length, Math.ceil((rows.scrollTop + rows.clientHeight) / ROW) + OVERSCAN);
    const drawn = document.createDocumentFragment();
    for (let place = first; place < last; place++) drawn.append(this.row(this.visible[place], place));
    this.find("sizer").replaceChildren(drawn);
    rows.setAttribute("aria-rowcount", this.visible.length);
    rows.setAttribute("aria-activedescendant", `span-${this.active}`);
  }

  row(index, place) {
    const { data } = this;
    const service = data.services[data.service[index]];
    const name = data.names[data.name[index]];
    const branch = this.ends[index] > index + 1;
    const length = this.until - this.from;
    const row = element("div", `row ${data.failed[index] ? "failed" : ""} ${data.ids[index] === data.selected ? "selected" : ""} ${index === this.active ? "active" : ""} ${this.matches && !this.matches.has(index) ? "faded" : ""}`);
    row.id = `span-${index}`;
    row.dataset.index = index;
    row.style.top = `${place * ROW}px`;
    row.setAttribute("role", "row");
    row.setAttribute("aria-level", data.depth[index] + 1);
    row.setAttribute("aria-rowindex", place + 1);
    row.setAttribute("aria-selected", data.ids[index] === data.selected);
    if (branch) row.setAttribute("aria-expanded", !this.collapsed.has(index));
    row.setAttribute("aria-label", `${service} ${name}, ${time(data.length[index])}, own time ${time(data.self[index])}${data.failed[index] ? ", failed" : ""}`);

    const label = element("div", "label");
    label.style.paddingLeft = `${Math.min(data.depth[index], 24) * 11 + 4}px`;
    const twisty = element("span", "twisty", branch ? (this.collapsed.has(index) ? "▸" : "▾") : "");
    const swatch = element("span", "swatch");
    swatch.style.background = data.colours[data.service[index]];
    label.append(twisty, swatch);
    if (data.failed[index]) label.append(element("span", "mark bad", data.ids[index] === data.origin ? "■ origin" : "■"));
    if (data.warnings[index]) label.append(element("span", "mark warn", "▲"));
    label.append(element("span", "service", service), element("span", "operation", name));
    if (branch && this.collapsed.has(index)) label.append(element("span", "hidden-count", `+${this.ends[index] - index - 1}`));
    label.title = `${service} · ${name}${data.warnings[index] ? `\n▲ ${data.warnings[index].join("\n▲ ")}` : ""}`;

    const track = element("div", "lane");
    const left = ((data.start[index] - this.from) / length) * 100;
    const width = (data.length[index] / length) * 100;
    if (left < 100 && left + width > 0) {
      const bar = element("div", "bar");
      const [from, to] = [Math.max(left, 0), Math.min(left + width, 100)];
      bar.style.left = `${from}%`;
      bar.style.width = `max(2px, ${to - from}%)`;
      bar.style.background = data.colours[data.service[index]];
      track.append(bar);
      const path = data.critical[index] ?? [];
      for (let at = 0; at < path.length; at += 2) {
        const [start, end] = [Math.max(path[at], this.from), Math.min(path[at + 1], this.until)];
        if (end <= start) continue;
        const piece = element("div", "critical");
        piece.style.left = `${((start - this.from) / length) * 100}%`;
        piece.style.width = `max(1px, ${((end - start) / length) * 100}%)`;
        track.append(piece);
      }
      const text = element("span", "took", time(data.length[index]));
      if (to < 82) text.style.left = `calc(${Math.max(to, 0)}% + 6px)`;
      else if (from > 16) { text.style.right = `calc(${100 - from}% + 6px)`; }
      else { text.style.right = `calc(${100 - to}% + 6px)`; text.classList.add("inside"); }
      track.append(text);
    }
    const gap = data.gap[index] >= 0 ? `, network gap ${time(data.gap[index])}` : "";
    track.title = `${service} · ${name}\n${time(data.length[index])} at ${time(data.start[index])}, own time ${time(data.self[index])}${gap}${data.kind[index] ? `\n${data.kind[index]}` : ""}`;
    row.append(label, track);
    return row;
  }

  paintAxis() {
    const axis = this.find("track");
    const length = this.until - this.from;
    const wanted = Math.max(2, Math.floor(axis.clientWidth / 110));
    const magnitude = 10 ** Math.floor(Math.log10(length / wanted));
    const step = [1, 2, 5, 10].map((factor) => factor * magnitude).find((size) => length / size <= wanted) ?? length;
    const ticks = document.createDocumentFragment();
    const grid = [];
    for (let tick = Math.ceil(this.from / step) * step; tick <= this.until; tick += step) {
      const left = ((tick - this.from) / length) * 100;
      if (left > 96) break;
      const mark = element("span", "tick", time(tick));
      mark.style.left = `${left}%`;
      ticks.append(mark);
      grid.push(left);
    }
    axis.replaceChildren(ticks);
    const lines = grid.map((left) => `linear-gradient(var(--line), var(--line)) ${left.toFixed(3)}% 0 / 1px 100% no-repeat`);
    this.root.style.setProperty("--grid", lines.join(", ") || "none");
  }

  paintMap() {
    const map = this.find("map");
    const [width, height] = [map.clientWidth, map.clientHeight];
    const mark = `${width} ${this.data.colours.join()}`;
    if (this.mapped !== mark && width) {
      this.mapped = mark;
      const canvas = this.find("overview");
      const ratio = window.devicePixelRatio || 1;
      [canvas.width, canvas.height] = [width * ratio, height * ratio];
      const pen = canvas.getContext("2d");
      pen.scale(ratio, ratio);
      const { data } = this;
      const line = Math.max(0.4, Math.min(4, (height - 6) / data.ids.length));
      for (let index = 0; index < data.ids.length; index++) {
        pen.fillStyle = data.colours[data.service[index]];
        const left = (data.start[index] / data.duration) * width;
        pen.fillRect(left, 3 + ((height - 6) * index) / data.ids.length, Math.max(1, (data.length[index] / data.duration) * width), Math.max(line, 0.8));
      }
      pen.fillStyle = data.palette.bad;
      for (let index = 0; index < data.ids.length; index++) {
        if (data.failed[index]) pen.fillRect((data.start[index] / data.duration) * width, 2 + ((height - 6) * index) / data.ids.length, 3, 3);
      }
    }
    this.band(this.from, this.until);
  }

  band(from, until) {
    const band = this.find("band");
    const [low, high] = [Math.min(from, until), Math.max(from, until)];
    band.style.left = `${(low / this.data.duration) * 100}%`;
    band.style.width = `${((high - low) / this.data.duration) * 100}%`;
    band.hidden = low <= 0 && high >= this.data.duration;
  }

  click(event) {
    const row = event.target.closest(".row");
    if (!row) return;
    const index = Number(row.dataset.index);
    this.active = index;
    if (event.target.closest(".twisty") && this.ends[index] > index + 1) this.toggle(index);
    else this.pick(index);
  }

  pick(index) {
    this.active = index;
    this.choose(this.data.ids[index]);
    this.paint();
  }

  toggle(index) {
    if (!this.collapsed.delete(index)) this.collapsed.add(index);
    this.arrange();
  }

  key(event) {
    const place = this.visible.indexOf(this.active);
    const index = this.active;
    const move = (to) => { this.active = this.visible[Math.max(0, Math.min(this.visible.length - 1, to))]; this.reveal(this.active); };
    const branch = this.ends[index] > index + 1;
    const page = Math.floor(this.find("rows").clientHeight / ROW) - 1;
    const actions = {
      ArrowDown: () => move(place + 1),
      ArrowUp: () => move(place - 1),
      PageDown: () => move(place + page),
      PageUp: () => move(place - page),
      Home: () => move(0),
      End: () => move(this.visible.length - 1),
      ArrowRight: () => { if (branch && this.collapsed.has(index)) this.toggle(index); else if (branch) move(place + 1); },
      ArrowLeft: () => {
        if (branch && !this.collapsed.has(index)) return this.toggle(index);
        let up = index;
        while (up > 0 && this.data.depth[up] >= this.data.depth[index]) up--;
        this.active = up;
        this.reveal(up);
      },
      Enter: () => this.pick(index),
      " ": () => this.pick(index),
      "+": () => this.zoom(0.7, this.middle(index)),
      "-": () => this.zoom(1 / 0.7, this.middle(index)),
      0: () => this.show(0, this.data.duration),
      f: () => this.show(this.data.start[index] - this.data.length[index] * 0.05, this.data.start[index] + this.data.length[index] * 1.05),
    };
    if (actions[event.key] && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      actions[event.key]();
    }
  }

  middle(index) {
    const at = (this.data.start[index] + this.data.length[index] / 2 - this.from) / (this.until - this.from);
    return Math.min(1, Math.max(0, at));
  }

  reveal(index) {
    for (const parent of [...this.collapsed]) {
      if (parent < index && this.ends[parent] > index) this.collapsed.delete(parent);
    }
    this.arrange();
    const rows = this.find("rows");
    const top = this.visible.indexOf(index) * ROW;
    if (top < rows.scrollTop) rows.scrollTop = top;
    else if (top + ROW > rows.scrollTop + rows.clientHeight) rows.scrollTop = top + ROW - rows.clientHeight + ROW * 3;
    this.paint();
  }

  search(text) {
    const wanted = text.trim().toLowerCase();
    this.matches = null;
    if (wanted) {
      const services = this.data.services.map((service) => service.toLowerCase().includes(wanted));
      const names = this.data.names.map((name) => name.toLowerCase().includes(wanted));
      this.matches = new Set(this.data.ids.keys().filter((index) => services[this.data.service[index]] || names[this.data.name[index]] || this.data.ids[index] === wanted));
    }
    this.find("found").textContent = wanted ? `${this.matches.size} found` : "";
    this.paint();
  }

  nextMatch() {
    if (!this.matches?.size) return;
    const sorted = [...this.matches].sort((a, b) => a - b);
    this.active = sorted.find((index) => index > this.active) ?? sorted[0];
    this.reveal(this.active);
  }

  nextFailure() {
    const failed = this.data.failed.flatMap((is, index) => (is ? [index] : []));
    const origin = this.data.ids.indexOf(this.data.origin);
    this.active = this.soughtFailure ? failed.find((index) => index > this.active) ?? failed[0] : origin >= 0 ? origin : failed[0];
    this.soughtFailure = true;
    this.reveal(this.active);
    this.pick(this.active);
  }
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  if (text) made.textContent = text;
  return made;
}

function time(micros) {
  const digits = (value) => (value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2)).replace(/\.0+$|(\.\d*[1-9])0+$/, "$1");
  if (micros >= 999500) return `${digits(micros / 1e6)} s`;
  if (micros >= 999.5) return `${digits(micros / 1e3)} ms`;
  return micros === 0 ? "0" : `${digits(micros)} µs`;
}
