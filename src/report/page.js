"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const runs = data.runs, references = data.references, hellaswag = data.hellaswag;
const single = runs.length === 1;

// What the reader chose. x: i steps, t tokens, s seconds; zoom: [low, high] of x, or null.
const view = {
    x: "i", log: false, zoom: null,
    run: runs.map(() => true),
    kind: { raw: runs.length < 3, smooth: true, val: true, train: false, checkpoints: true, skipped: true },
    reference: references.map((_, i) => runs.some(run => run.reference === i)),
};
const charts = [];
if (!single) document.body.classList.add("several");

// ---- numbers as people read them --------------------------------------------------------------

const minus = text => text.replace("-", "\u2212");

function group(n) {
    return String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, ",");
}

function compact(n) {
    for (const [unit, size] of [["T", 1e12], ["B", 1e9], ["M", 1e6], ["k", 1e3]])
        if (n >= size) return String(Number((n / size).toPrecision(4))) + unit;
    return String(Number(n.toPrecision(4)));
}

function duration(s) {
    if (s < 60) return Number(s.toPrecision(3)) + "s";
    const parts = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
    let text = "", left = Math.round(s), n = 0;
    for (const [size, unit] of parts) {
        const count = Math.floor(left / size);
        if (count > 0 && n < 2) { text += (text && " ") + count + unit; n++; } else if (n > 0) break;
        left -= count * size;
    }
    return text;
}

function bytes(n) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let i = 0;
    for (; n >= 1023.95 && i < units.length - 1; i++) n /= 1024;
    return (i ? n.toFixed(1) : n) + " " + units[i];
}

const four = v => Math.abs(v) < 1e4 && Math.abs(v) >= 1e-3 ? v.toFixed(4) : v.toPrecision(4);
const plain = v => minus(String(Number(v.toPrecision(4))));

const AXES = {
    i: { title: "steps", tick: compact, value: v => "Step " + group(v) },
    t: { title: "tokens", tick: compact, value: v => compact(v) + " tokens" },
    s: { title: "time", tick: duration, value: v => "After " + (duration(v) || "0s") },
};

// ---- the document -----------------------------------------------------------------------------

function element(name, properties = {}, children = []) {
    const e = Object.assign(document.createElement(name), properties);
    e.append(...children);
    return e;
}

function shape(name, attributes) {
    const e = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) e.setAttribute(key, attributes[key]);
    return e;
}

const by = id => document.getElementById(id);
const colour = r => "run" + r % 8 + (r < 8 ? "" : " again");

// ---- curves -----------------------------------------------------------------------------------

// The index of the first of the rising numbers that is not below x.
function lower(xs, x) {
    let a = 0, b = xs.length;
    while (a < b) { const m = (a + b) >> 1; if (xs[m] < x) a = m + 1; else b = m; }
    return a;
}

// Where a run was after so many updates, on the axis of the view.
function place(run, iter) {
    if (view.x === "i") return iter;
    const curve = [run.curves.loss, run.curves.val].find(c => c.i.length && c.i[c.i.length - 1] >= iter) || run.curves.loss;
    const n = curve.i.length, k = Math.min(Math.max(lower(curve.i, iter), 1), n - 1), xs = curve[view.x];
    if (n === 0) return NaN;
    if (n === 1 || iter >= curve.i[n - 1]) return xs[n - 1];
    const part = (iter - curve.i[k - 1]) / (curve.i[k] - curve.i[k - 1]);
    return xs[k - 1] + part * (xs[k] - xs[k - 1]);
}

const KINDS = {
    raw: { key: "loss", name: () => "Train, each step" },
    smooth: { key: "loss_average", name: () => "Train, average" },
    val: { key: "val", name: () => "Validation" },
    train: { key: "train", name: () => "Train, evaluated" },
};

function curveOf(r, kind, key, name) {
    const points = runs[r].curves[key];
    const tint = single && kind === "val" ? "run1" : colour(r);
    return { name: single ? name : runs[r].name, note: single ? "" : name.toLowerCase(), kind, tint, xs: points[view.x], vs: points.v };
}

function lossCurves() {
    const list = [];
    references.forEach((reference, i) => {
        if (view.reference[i] && reference[view.x])
            list.push({ name: reference.name, note: "", kind: "reference", tint: "reference", xs: reference[view.x], vs: reference.v });
    });
    for (const kind of ["raw", "train", "smooth", "val"])
        runs.forEach((_, r) => {
            if (view.run[r] && view.kind[kind]) list.push(curveOf(r, kind, KINDS[kind].key, KINDS[kind].name()));
        });
    return list.filter(curve => curve.xs.length);
}

function plainCurves(key, name) {
    const list = [], shown = runs.map((_, r) => r).filter(r => view.run[r] && runs[r].curves[key].v.length);
    const hasAverage = key + "_average" in runs[0].curves;
    if (hasAverage && view.kind.raw) for (const r of shown) list.push(curveOf(r, "raw", key, name));
    if (hasAverage && view.kind.smooth) for (const r of shown) list.push(curveOf(r, "smooth", key + "_average", "Average"));
    if (!hasAverage) for (const r of shown) list.push(curveOf(r, "smooth", key, single ? name : ""));
    return list;
}

// The runs', and the share that a known model has, at places enough for a pointer to be near one.
function hellaswagCurves() {
    const [low, high] = xDomain(), xs = Array.from({ length: 101 }, (_, k) => low + (high - low) * k / 100);
    const known = { name: hellaswag.name, note: "", kind: "reference", tint: "reference", xs, vs: xs.map(() => hellaswag.v) };
    return [known, ...plainCurves("hellaswag", "acc_norm")];
}

// ---- scales -----------------------------------------------------------------------------------

const TIMES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

function niceStep(rough, isTime) {
    if (isTime && rough > 1 && rough <= 86400) return TIMES.find(t => t >= rough);
    const unit = isTime && rough > 86400 ? 86400 : 1, size = 10 ** Math.floor(Math.log10(rough / unit));
    return unit * size * [1, 2, 5, 10].find(m => m * size >= rough / unit * .999);
}

function ticks(low, high, n, isTime) {
    const step = niceStep((high - low) / n, isTime), list = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) list.push(Number((k * step).toPrecision(12)));
    return list;
}

function logTicks(low, high, n) {
    if (high / low < 8) return ticks(low, high, n).filter(v => v > 0);
    const list = [], sparse = high / low > 1e4;
    for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++)
        for (const m of sparse ? [1] : [1, 2, 5]) if (m * 10 ** e >= low && m * 10 ** e <= high) list.push(Number((m * 10 ** e).toPrecision(12)));
    return list;
}

const NARROWEST = 1e-9; // of x, a window: beyond it numbers cannot tell its ticks apart

function xDomain() {
    if (view.zoom) return view.zoom;
    let low = Infinity, high = -Infinity;
    runs.forEach((run, r) => {
        for (const curve of view.run[r] ? [run.curves.loss, run.curves.val] : []) {
            const xs = curve[view.x];
            if (xs.length) { low = Math.min(low, xs[0]); high = Math.max(high, xs[xs.length - 1]); }
        }
    });
    if (low > high) return [0, 1];
    return [low, Math.max(low === high ? low + 1 : high, low * (1 + NARROWEST))];
}

// The greatest loss after the first of a run's steps (averages and evaluations); the whole of a long one would be pressed
// flat under the loss it starts from.
function settledLoss(curves, [x0, x1]) {
    let high = 0;
    if (view.zoom) return 0;
    for (const { xs, vs, kind } of curves)
        for (let i = lower(xs, x0 + .03 * (x1 - x0)); kind !== "raw" && i < xs.length && xs[i] <= x1; i++) high = Math.max(high, vs[i]);
    return high;
}

// Of the points that are in sight, up to somewhat above `settled` (0: all of them).
function yDomain(curves, [x0, x1], isLog, settled) {
    let low = Infinity, high = -Infinity;
    for (const { xs, vs } of curves)
        for (let i = lower(xs, x0); i < xs.length && xs[i] <= x1; i++)
            if (!isLog || vs[i] > 0) { low = Math.min(low, vs[i]); high = Math.max(high, vs[i]); }
    if (low > high) return [isLog ? 1 : 0, isLog ? 10 : 1];
    if (settled && !isLog && high > 2 * settled) high = 1.15 * settled;
    if (isLog) return [low / (high / low) ** .04 / 1.001, high * (high / low) ** .04 * 1.001];
    const room = (high - low) * .05 || Math.abs(high) * .05 || 1;
    return [low >= 0 && low - room < 0 ? 0 : low - room, high + room];
}

// ---- a chart ----------------------------------------------------------------------------------

class Chart {
    constructor(figure, options) {
        Object.assign(this, { figure, cursor: null }, options);
        this.svg = shape("svg", { tabindex: 0, role: "img", "aria-label": this.title + "; arrow keys move through its values" });
        this.tip = element("div", { className: "tip", hidden: true });
        this.tip.setAttribute("role", "status");
        figure.append(this.svg, this.tip);
        this.listen();
        charts.push(this);
    }

    listen() {
        const svg = this.svg;
        svg.addEventListener("pointermove", e => this.move(e));
        svg.addEventListener("pointerleave", () => { if (this.from == null) this.leave(); });
        svg.addEventListener("pointerdown", e => this.grab(e));
        svg.addEventListener("pointerup", e => this.drop(e));
        svg.addEventListener("pointercancel", () => { this.from = null; this.leave(); });
        svg.addEventListener("dblclick", () => setZoom(null));
        svg.addEventListener("keydown", e => this.step(e));
        svg.addEventListener("blur", () => this.leave());
    }

    // -- drawing --

    draw() {
        const width = this.figure.clientWidth, height = this.height(width);
        if (!width) return;
        this.curves = this.list();
        this.isLog = view.log && this.canLog;
        this.x = xDomain();
        this.y = yDomain(this.curves, this.x, this.isLog, this.marks ? settledLoss(this.curves, this.x) : 0);
        if (this.marks) makeHint(this.curves.some(({ vs }) => vs[0] > this.y[1]));
        const n = Math.max(3, Math.round(height / 58));
        const marks = this.isLog ? logTicks(...this.y, n) : ticks(...this.y, n);
        this.box = { left: 14 + 7 * Math.max(...marks.map(v => this.tick(v).length), 2), right: width - 10, top: 10, bottom: height - 28 };
        this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
        this.svg.setAttribute("height", height);
        this.svg.replaceChildren(...this.frame(marks, width), ...this.body());
        this.over = shape("g", {});
        this.svg.append(this.over);
        if (this.cursor != null) this.show();
    }

    px(x) {
        const { left, right } = this.box;
        return left + (x - this.x[0]) / (this.x[1] - this.x[0]) * (right - left);
    }

    py(v) {
        const { top, bottom } = this.box, [a, b] = this.isLog ? this.y.map(Math.log) : this.y;
        return bottom - ((this.isLog ? Math.log(v) : v) - a) / (b - a) * (bottom - top);
    }

    frame(marks, width) {
        const { left, right, bottom } = this.box, list = [];
        const label = (x, y, text, anchor) => {
            const e = shape("text", { x, y, "text-anchor": anchor });
            e.textContent = text;
            list.push(e);
        };
        for (const v of marks) {
            const y = this.py(v).toFixed(1);
            list.push(shape("line", { class: "rule", x1: left, x2: right, y1: y, y2: y }));
            label(left - 8, Number(y) + 4, this.tick(v), "end");
        }
        list.push(shape("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
        for (const v of ticks(...this.x, Math.max(2, Math.floor(width / 110)), view.x === "s")) {
            const x = this.px(v), text = AXES[view.x].tick(v);
            label(Math.min(x, right - text.length * 3.2), bottom + 19, text, "middle");
        }
        label(right, bottom - 6, AXES[view.x].title, "end");
        return list;
    }

    body() {
        const clip = "clip-" + this.id, { left, right, top, bottom } = this.box;
        const path = shape("clipPath", { id: clip }), inside = shape("g", { "clip-path": `url(#${clip})` });
        path.append(shape("rect", { x: left - 1, y: top - 6, width: right - left + 7, height: bottom - top + 7 }));
        if (this.marks) inside.append(...this.flags());
        for (const curve of this.curves) inside.append(...this.line(curve));
        if (this.curves.length === 0) inside.append(this.nothing());
        return [path, inside];
    }

    nothing() {
        const { left, right, top, bottom } = this.box;
        const e = shape("text", { x: (left + right) / 2, y: (top + bottom) / 2, "text-anchor": "middle" });
        e.textContent = "Nothing to show";
        return e;
    }

    line({ xs, vs, kind, tint }) {
        const begin = Math.max(lower(xs, this.x[0]) - 1, 0), end = Math.min(lower(xs, this.x[1]) + 2, xs.length);
        const points = [];
        for (let i = begin; i < end; i++)
            if (!this.isLog || vs[i] > 0) points.push([this.px(xs[i]).toFixed(1), this.py(vs[i]).toFixed(1)]);
        const d = "M" + points.map(p => p.join(" ")).join("L") + (points.length === 1 ? "h.1" : "");
        const list = points.length ? [shape("path", { class: `curve ${kind} ${tint}`, d })] : [];
        if (kind === "val" && points.length <= 40 || points.length === 1)
            for (const [cx, cy] of points) list.push(shape("circle", { class: `mark ${tint}`, cx, cy, r: 3.75 }));
        return list;
    }

    // Checkpoints stand on the axis, steps without an update hang from the top.
    flags() {
        const list = [], { top, bottom } = this.box;
        const inSight = x => x >= this.x[0] && x <= this.x[1];
        runs.forEach((run, r) => {
            if (!view.run[r]) return;
            for (const x of view.kind.checkpoints ? run.checkpoints.map(iter => place(run, iter)).filter(inSight) : []) {
                const at = this.px(x);
                list.push(shape("path", { class: "flag " + colour(r), d: `M${at} ${bottom - 8}l4.5 8h-9z` }));
            }
            for (const x of view.kind.skipped ? run.skipped.map(iter => place(run, iter)).filter(inSight) : []) {
                const at = this.px(x);
                list.push(shape("line", { class: "skip", x1: at, x2: at, y1: top, y2: top + 12 }));
            }
        });
        return list;
    }

    // -- values under the pointer --

    at(e) {
        const { left, right } = this.box, inside = e.clientX - this.svg.getBoundingClientRect().left;
        const part = Math.min(Math.max((inside - left) / (right - left), 0), 1);
        return this.x[0] + part * (this.x[1] - this.x[0]);
    }

    move(e) {
        this.cursor = this.at(e);
        this.show();
    }

    leave() {
        this.cursor = null;
        this.tip.hidden = true;
        if (this.over) this.over.replaceChildren();
    }

    step(e) {
        const sign = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
        if (e.key === "Escape") this.leave();
        if (!sign) return;
        e.preventDefault();
        const [low, high] = this.x, start = this.cursor == null ? (sign > 0 ? low : high) : this.cursor;
        this.cursor = Math.min(Math.max(start + sign * (high - low) * (e.shiftKey ? .1 : .01), low), high);
        this.show();
    }

    // The point of each curve next to the cursor; of references only where they are.
    nearest() {
        const list = [];
        for (const curve of this.curves) {
            const room = (this.x[1] - this.x[0]) * .01, n = curve.xs.length;
            if (this.cursor < curve.xs[0] - room || this.cursor > curve.xs[n - 1] + room) continue;
            let i = lower(curve.xs, this.cursor);
            if (i === n || i > 0 && this.cursor - curve.xs[i - 1] < curve.xs[i] - this.cursor) i--;
            if (curve.xs[i] >= this.x[0] && curve.xs[i] <= this.x[1]) list.push({ curve, x: curve.xs[i], v: curve.vs[i] });
        }
        return list;
    }

    show() {
        const found = this.nearest(), { top, bottom } = this.box, at = this.px(this.cursor);
        const list = [shape("line", { class: "cursor", x1: at, x2: at, y1: top, y2: bottom })];
        if (this.from != null) {
            const a = Math.min(this.px(this.from), at);
            list.push(shape("rect", { class: "band", x: a, y: top, width: Math.abs(this.px(this.from) - at), height: bottom - top }));
        }
        for (const { curve, x, v } of found)
            if (!this.isLog || v > 0) list.push(shape("circle", { class: "mark " + curve.tint, cx: this.px(x), cy: this.py(v), r: 4 }));
        this.over.replaceChildren(...list);
        this.tell(found, at);
    }

    tell(found, at) {
        const [low, high] = this.x, far = (high - low) * .01;
        const rows = found.map(({ curve, x, v }) => element("div", {}, [
            element("i", { className: "dot " + curve.tint }), element("span", { textContent: curve.name }),
            element("em", { textContent: [curve.note, Math.abs(x - this.cursor) > far ? AXES[view.x].value(x).toLowerCase() : ""].filter(Boolean).join(", ") }),
            element("b", { textContent: this.format(v) })]));
        this.tip.replaceChildren(element("b", { className: "when", textContent: AXES[view.x].value(this.cursor) }), ...rows);
        this.tip.hidden = false;
        const width = this.tip.offsetWidth, isRight = at > (this.box.left + this.box.right) / 2;
        const left = isRight ? at - 14 - width : at + 14;
        this.tip.style.left = Math.max(0, Math.min(left, this.figure.clientWidth - width)) + "px";
    }

    // -- a part of the run --

    grab(e) {
        if (e.pointerType !== "mouse" || e.button !== 0) return;
        this.from = this.at(e);
        this.svg.setPointerCapture(e.pointerId);
    }

    drop(e) {
        const from = this.from, to = this.at(e);
        this.from = null;
        if (from == null) return;
        const low = Math.min(from, to), high = Math.max(from, to);
        if (this.px(high) - this.px(low) > 8 && high - low > high * NARROWEST) setZoom([low, high]);
        else this.show();
    }
}

function drawAll() {
    for (const chart of charts) chart.draw();
}

function setZoom(zoom) {
    view.zoom = zoom;
    by("unzoom").hidden = !zoom;
    drawAll();
}

// ---- legend -----------------------------------------------------------------------------------

function keyOf(kind, tint) {
    const svg = shape("svg", { class: "key", viewBox: "0 0 22 12", "aria-hidden": "true" });
    if (kind === "checkpoints") svg.append(shape("path", { class: "flag " + tint, d: "M11 1l5 9h-10z" }));
    else if (kind === "skipped") svg.append(shape("line", { class: "skip", x1: 11, x2: 11, y1: 0, y2: 12 }));
    else if (kind === "run") svg.append(shape("circle", { class: "flag " + tint, cx: 11, cy: 6, r: 5 }));
    else svg.append(shape("path", { class: `curve ${kind} ${tint}`, d: "M1 6h20" }));
    if (kind === "val") svg.append(shape("circle", { class: "mark " + tint, cx: 11, cy: 6, r: 4 }));
    return svg;
}

function chip(label, kind, tint, store, key, changed = drawAll) {
    const button = element("button", { type: "button" }, [keyOf(kind, tint), element("span", { textContent: label })]);
    const set = on => { store[key] = on; button.setAttribute("aria-pressed", on); };
    set(store[key]);
    button.addEventListener("click", () => { set(!store[key]); changed(); });
    return button;
}

function has(part) {
    return runs.some(part);
}

function makeLegend() {
    const legend = by("legend"), tint = single ? "run0" : "quiet";
    if (!single) runs.forEach((run, r) => legend.append(chip(run.name, "run", colour(r), view.run, r)));
    for (const kind of ["raw", "smooth", "val", "train"])
        if (has(run => run.curves[KINDS[kind].key].v.length))
            legend.append(chip(KINDS[kind].name(), kind, single && kind === "val" ? "run1" : tint, view.kind, kind));
    references.forEach((reference, i) => {
        if (view.reference[i]) legend.append(chip(reference.name, "reference", "reference", view.reference, i, showReferences));
    });
    if (has(run => run.checkpoints.length)) legend.append(chip("Checkpoints", "checkpoints", tint, view.kind, "checkpoints"));
    if (has(run => run.skipped.length)) legend.append(chip("No update", "skipped", "warn", view.kind, "skipped"));
}

// ---- the charts of the page -------------------------------------------------------------------

function makeCharts() {
    const height = width => Math.round(Math.min(420, Math.max(260, width * .4)));
    new Chart(by("chart-loss"), { id: "loss", title: "Loss", list: lossCurves, height, canLog: true, marks: true, tick: plain, format: four });
    const small = [
        ["lr", "Learning rate", v => v.toExponential(2)], ["grad_norm", "Gradient norm", four],
        ["hellaswag", "HellaSwag, acc_norm", four], ["tokens_per_s", "Tokens per second", group], ["mfu", "Model FLOP utilisation, %", v => v.toFixed(2) + " %"]];
    for (const [key, title, format] of small) {
        if (!has(run => run.curves[key].v.length)) continue;
        const figure = element("figure", { className: "chart" });
        by("small").append(element("div", {}, [element("h3", { textContent: title }), figure]));
        new Chart(figure, {
            id: key, title, list: key === "hellaswag" ? hellaswagCurves : () => plainCurves(key, title),
            height: () => 210, canLog: key === "grad_norm", format,
            tick: { tokens_per_s: compact, lr: v => v ? minus(v.toExponential()) : "0" }[key] || plain,
        });
        if (key === "hellaswag")
            figure.after(element("p", { className: "hint", textContent: `Dashed: ${hellaswag.name}, ${four(hellaswag.v)}.` }));
    }
}

function makeHint(isCut) {
    const windows = runs.map(run => run.window), least = Math.min(...windows), most = Math.max(...windows);
    const averaged = most === 1 ? [] : [`Averages are exponential, over ${least < most ? group(least) + " to " : ""}${group(most)} steps.`];
    const thinned = has(run => run.curves.loss.v.length >= 2000) ? ["Of long runs the least and the greatest value of each part are drawn."] : [];
    const mouse = matchMedia("(hover: hover)").matches ? ["Drag to look closer, double-click for the whole run."] : [];
    const cut = isCut ? ["The start is above the edge: the log scale has it."] : [];
    const timeless = view.x === "s" && view.reference.includes(true) ? ["References are not drawn against time."] : [];
    by("hint").textContent = [...cut, ...timeless, ...mouse, ...averaged, ...thinned].join(" ");
}

function listenToControls() {
    for (const input of document.querySelectorAll("input[name=x]"))
        input.addEventListener("change", () => { view.x = input.value; setZoom(null); });
    by("log").addEventListener("change", e => { view.log = e.target.checked; drawAll(); });
    by("unzoom").addEventListener("click", () => setZoom(null));
}

// ---- memory -----------------------------------------------------------------------------------

function memoryOf(known, names) {
    const { groups, total, limit, host } = known;
    const sum = groups.reduce((n, g) => n + g.bytes, 0), free = limit && sum > .2 * limit && limit > sum ? limit - sum : 0;
    const order = groups.map((g, i) => ({ ...g, tint: "run" + i % 8 })).filter(g => g.bytes > 0).sort((a, b) => b.bytes - a.bytes);
    const bar = element("div", { className: "stack" });
    bar.setAttribute("role", "img");
    bar.setAttribute("aria-label", order.map(g => g.name + " " + bytes(g.bytes)).join(", "));
    for (const g of order) {
        const part = element("i", { className: g.tint, title: g.name + ": " + bytes(g.bytes) });
        part.style.flex = g.bytes + " 0 0";
        bar.append(part);
    }
    if (free) { const rest = element("i", { className: "free", title: "free: " + bytes(free) }); rest.style.flex = free + " 0 0"; bar.append(rest); }
    const parts = element("ul", { className: "parts" }, order.map(g => element("li", {}, [
        element("span", { className: "dot " + g.tint }), element("span", { textContent: g.name }),
        element("b", { textContent: bytes(g.bytes) }), element("small", { textContent: (100 * g.bytes / sum).toFixed(1) + " %" })])));
    const said = [bytes(total || sum) + (limit ? " of " + bytes(limit) + " allowed" : ""), host ? bytes(host) + " of host memory beside the GPU" : ""];
    const shared = groups.reduce((n, g) => n + g.own - g.bytes, 0);
    if (shared > 0) said.push(bytes(shared) + " more share memory with these, for they are never live together");
    return element("div", { className: "memory" }, [
        ...(single ? [] : [element("h3", { textContent: names.join(", ") })]),
        element("p", { className: "sum", textContent: said.filter(Boolean).join("; ") + "." }), bar, parts]);
}

function makeMemory() {
    const names = new Map(); // of the runs with the same plan
    for (const run of runs.filter(r => r.memory)) {
        const plan = JSON.stringify(run.memory);
        names.set(plan, [...(names.get(plan) || []), run.name]);
    }
    by("memory").hidden = names.size === 0;
    for (const [plan, of] of names) by("memory-bars").append(memoryOf(JSON.parse(plan), of));
}

// ---- settings, samples, references ------------------------------------------------------------

function settingsTable(keys, known, mark) {
    const head = element("tr", {}, ["Setting", ...known.map(run => run.name)].map(text => element("th", { scope: "col", textContent: text })));
    const rows = keys.map(key => element("tr", { className: mark(key) ? "" : "same" }, [
        element("th", { scope: "row", textContent: key }),
        ...known.map(run => element("td", { textContent: key in run.config ? String(run.config[key]) : "\u2013" }))]));
    const table = element("table", { className: "settings" }, [...(known.length > 1 ? [element("thead", {}, [head])] : []), element("tbody", {}, rows)]);
    return element("div", { className: "scroll" }, [table]);
}

function makeSettings() {
    const known = runs.filter(run => run.config), keys = [...new Set(known.flatMap(run => Object.keys(run.config)))];
    if (!known.length) return;
    const differs = key => new Set(known.map(run => String(run.config[key]))).size > 1, different = keys.filter(key => key !== "out_dir" && differs(key));
    const box = by("settings-table");
    by("settings").hidden = false;
    if (different.length) box.append(settingsTable(different, known, () => true));
    else if (known.length > 1) box.append(element("p", { textContent: "The runs have the same settings but for out_dir." }));
    box.append(element("details", {}, [
        element("summary", { textContent: `All ${keys.length} settings` }),
        settingsTable(keys, known, key => known.length === 1 || differs(key))]));
}

function makeSamples() {
    for (const run of runs) {
        if (!run.samples.length) continue;
        if (!single) by("samples-list").append(element("h3", { textContent: run.name }));
        [...run.samples].reverse().forEach(({ iter, text }, i) => by("samples-list").append(element("details", { open: i === 0 }, [
            element("summary", { textContent: "Step " + group(iter) }), element("pre", { textContent: text })])));
    }
    by("samples").hidden = !by("samples-list").firstChild;
}

// In the legend are those that are drawn, in the list below all of them.
function showReferences() {
    by("legend").replaceChildren();
    makeLegend();
    document.querySelectorAll("#references-list input").forEach((box, i) => { box.checked = view.reference[i]; });
    drawAll();
}

function makeReferences() {
    by("references").hidden = false;
    references.forEach((reference, i) => {
        const box = element("input", { type: "checkbox", checked: view.reference[i] });
        box.addEventListener("change", () => { view.reference[i] = box.checked; showReferences(); });
        by("references-list").append(element("li", {}, [
            element("label", { className: "switch" }, [box, element("b", { textContent: reference.name })]),
            element("div", { textContent: reference.source + "." })]));
    });
    if (has(run => run.curves.hellaswag.v.length))
        by("references-list").append(element("li", {}, [
            element("b", { textContent: hellaswag.name }), element("div", { textContent: hellaswag.source + "." })]));
}

makeCharts();
makeLegend();
listenToControls();
makeMemory();
makeSettings();
makeSamples();
makeReferences();
by("charts").hidden = false;
drawAll();
let drawnAt = innerWidth;
addEventListener("resize", () => { if (innerWidth !== drawnAt) { drawnAt = innerWidth; drawAll(); } });
})();
