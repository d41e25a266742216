"use strict";
/*
 * Draws what is in the element "data". Text from the image is only ever put in as text, and characters that cannot be seen or change its
 * direction are shown as \u{...}.
 */
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const guest = data.guest;
const STEPS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const LAYERS = [["present", "present", "present"], ["working_set", "working set", "wanted"], ["differing", "different", "differing"]];
const hidden = new Set(); // layers that are switched off
const $ = (selector) => document.querySelector(selector);

const plain = (text) => String(text).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu, (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");

function make(tag, name, ...parts) {
	const e = document.createElement(tag);
	if (name) e.className = name;
	e.append(...parts);
	return e;
}

function size(bytes) {
	const units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
	let u = 0;
	while (bytes >= 1023.95 && u < 6) { bytes /= 1024; u++; }
	return (u && bytes % 1 >= 0.05 ? bytes.toFixed(1) : Math.floor(bytes)) + " " + units[u];
}
const count = (n, one, many) => n.toLocaleString("en") + " " + (n === 1 ? one : many || one + "s");
const pages = (n) => count(n, "page");
const hex = (n) => "0x" + n.toString(16);
const share = (part, all) => all ? (100 * part / all).toFixed(part && part < all / 1000 ? 2 : 1) + " %" : "0 %";
const when = (s) => new Date(1000 * s).toISOString().slice(0, 16).replace("T", " ") + " UTC";

/* --- the guest as a whole --- */

function fact(name, value, small) {
	const dd = make("dd", "", plain(value));
	if (small) dd.append(make("small", "", plain(small)));
	$("#facts").append(make("div", "", make("dt", "", name), dd));
}

function showGuest() {
	const file = plain(guest.file).replace(/^.*\//, "") || plain(guest.file);
	document.title = file + " - godwit inspect";
	$("#title").textContent = file;
	$("#subtitle").textContent = plain(guest.file) + (data.compare ? ", compared with " + plain(data.compare) : "");
	fact("Format", guest.format === "image" ? "mapped-ram image" : "migration stream", "pages of " + size(guest.page_bytes));
	fact("Machine", guest.machine, guest.uuid);
	fact("Run state", guest.run_state || "not stated");
	fact("Memory", size(guest.ram_bytes), count(data.blocks.length + data.left_out.blocks, "RAM block"));
	const present = data.blocks.reduce((n, b) => n + b.pages, 0);
	if (guest.format === "image")
		fact("Present", size(present * guest.page_bytes), share(present * guest.page_bytes, guest.ram_bytes) + " of memory");
	else
		fact("Sent", pages(present), pages(guest.zero_pages) + " of zeros more");
	fact("Devices", (data.devices.length + data.left_out.devices).toLocaleString("en"), size(guest.bytes.devices));
	const ws = data.working_set;
	if (ws && !ws.unused)
		fact("Working set", pages(ws.pages), count(ws.runs, "run") + (ws.added ? ", until " + when(ws.added) : ""));
	if (guest.clonable !== undefined)
		fact("Clonable", guest.clonable ? "yes" : "no");
	$("#made").textContent = "Made by godwit " + plain(data.version) + ". This page loads nothing and sends nothing.";
}

function showList(id, texts, lead) {
	if (!texts.length && !lead) return;
	$(id).hidden = false;
	if (lead) $(id + " .lead").textContent = lead;
	for (const text of texts)
		$(id + " ul").append(make("li", "", plain(text)));
}

function showSentences() {
	const warnings = guest.warnings.slice();
	if (data.working_set && data.working_set.unused) warnings.push("The working set is not used: " + data.working_set.unused);
	if (guest.not_clonable) warnings.push("Not clonable: " + guest.not_clonable);
	const left = data.left_out;
	if (left.blocks) warnings.push(count(left.blocks, "RAM block") + " more did not fit in this page: godwit inspect --blocks shows them.");
	if (left.devices) warnings.push(count(left.devices, "device") + " more did not fit in this page: godwit inspect --devices shows them.");
	if (left.fields) warnings.push(count(left.fields, "field") + " more did not fit in this page: godwit inspect --device=NAME shows them.");
	if (left.differences) warnings.push(count(left.differences, "difference") + " more did not fit in this page: godwit verify shows them.");
	showList("#warnings", warnings);
	if (data.compare)
		showList("#differences", data.differences, data.differences.length + left.differences ? plain(guest.file) + " is the first, " + plain(data.compare) +
			" the second." : "None: both hold the same machine, RAM blocks, pages and devices.");
}

/* --- the map --- */

const levels = (text) => Uint8Array.from(text, (c) => STEPS.indexOf(c));

/* Joins neighbours until the map has no more rows than fit. */
function joined(values, by) {
	if (by === 1) return values;
	const to = new Uint8Array(Math.ceil(values.length / by));
	for (let i = 0; i < to.length; i++) {
		const part = values.subarray(i * by, (i + 1) * by);
		let sum = 0, all = true;
		for (const v of part) { sum += v; all = all && v === 63; }
		to[i] = all ? 63 : sum ? Math.max(1, Math.min(62, Math.round(sum / part.length))) : 0;
	}
	return to;
}

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

function layOut(block, width) {
	const cells = block.layers.present.length, cell = cells <= 64 ? 14 : cells <= 1024 ? 10 : 7;
	const columns = Math.max(1, Math.floor(width / cell)), rows = width < 500 ? 56 : 64;
	const by = Math.max(1, Math.ceil(cells / (columns * rows)));
	return {cell, columns, by, cells: Math.ceil(cells / by)};
}

function draw(block) {
	const canvas = block.canvas, width = canvas.parentElement.clientWidth, at = layOut(block, width);
	const rows = Math.ceil(at.cells / at.columns), scale = window.devicePixelRatio || 1;
	const wide = Math.min(at.columns, at.cells) * at.cell, high = rows * at.cell;
	canvas.width = wide * scale;
	canvas.height = high * scale;
	canvas.style.width = wide + "px";
	canvas.style.height = high + "px";
	block.at = at;
	const pen = canvas.getContext("2d");
	pen.scale(scale, scale);
	const fill = (i, name, part) => {
		pen.globalAlpha = part === 63 ? 1 : 0.3 + 0.6 * part / 63;
		pen.fillStyle = name;
		pen.fillRect(i % at.columns * at.cell, Math.floor(i / at.columns) * at.cell, at.cell - 1, at.cell - 1);
	};
	const absent = color("absent");
	for (let i = 0; i < at.cells; i++) fill(i, absent, 63);
	for (const [layer, , name] of LAYERS) {
		if (!block.layers[layer] || hidden.has(layer)) continue;
		const values = joined(block.layers[layer], at.by), paint = color(name);
		values.forEach((v, i) => { if (v) fill(i, paint, v); });
	}
}

function partText(values, first, n, each) {
	const part = values.subarray(first, first + n);
	const sum = part.reduce((a, v) => a + v, 0);
	if (!sum) return "none";
	if (part.every((v) => v === 63)) return "all";
	return each === 1 ? share(sum / 63, part.length) : "about " + Math.max(1, Math.min(99, Math.round(100 * sum / 63 / part.length))) + " %";
}

function cellText(block, i) {
	const at = block.at, first = i * at.by, n = Math.min(at.by, block.layers.present.length - first);
	const from = first * block.cell_pages * guest.page_bytes;
	const to = Math.min(block.used_bytes, (first + n) * block.cell_pages * guest.page_bytes);
	let text = hex(from) + " - " + hex(to - 1) + "  (" + size(to - from) + ")";
	for (const [layer, name] of LAYERS)
		if (block.layers[layer]) text += "\n" + name + ": " + partText(block.layers[layer], first, n, block.cell_pages);
	return text;
}

function showTip(text, x, y) {
	const tip = $("#tip");
	tip.textContent = text;
	tip.hidden = false;
	tip.style.left = Math.max(6, Math.min(x + 14, window.innerWidth - tip.offsetWidth - 6)) + "px";
	tip.style.top = (y + 18 + tip.offsetHeight > window.innerHeight ? y - tip.offsetHeight - 10 : y + 18) + "px";
}
const hideTip = () => { $("#tip").hidden = true; };

function tipOfMap(block, event) {
	const box = block.canvas.getBoundingClientRect(), at = block.at;
	const column = Math.floor((event.clientX - box.left) / at.cell), row = Math.floor((event.clientY - box.top) / at.cell);
	const i = row * at.columns + column;
	if (column < 0 || column >= at.columns || i < 0 || i >= at.cells) return hideTip();
	showTip(cellText(block, i), event.clientX, event.clientY);
}

function blockNumbers(b) {
	if (b.ignored) return "shared memory, which is not in the file";
	const all = b.used_bytes / guest.page_bytes;
	const parts = guest.format === "image"
		? [pages(b.pages) + " present (" + share(b.pages, all) + ")", count(b.zero_pages, "zero page")]
		: [pages(b.pages) + " sent", count(b.zero_pages, "zero page") + " sent", count(b.xbzrle_pages, "delta")];
	if (b.working_set_pages) parts.push(b.working_set_pages.toLocaleString("en") + " in the working set");
	if (b.differing_pages) parts.push(b.differing_pages.toLocaleString("en") + " different");
	if (b.address) parts.push("at " + hex(b.address));
	if (b.backing_page_bytes && b.backing_page_bytes !== guest.page_bytes) parts.push("on pages of " + size(b.backing_page_bytes));
	if (b.cell_pages > 1) parts.push("map in steps of " + size(b.cell_pages * guest.page_bytes));
	return parts.join(" · ");
}

function showBlock(b) {
	const box = make("div", "block", make("div", "head", make("h3", "", plain(b.name)), make("span", "size", size(b.used_bytes))));
	$(".blocks").append(box);
	b.layers = {};
	for (const [layer] of LAYERS)
		if (b[layer] !== undefined) b.layers[layer] = levels(b[layer]);
	if (b.layers.present && b.layers.present.length) {
		b.canvas = make("canvas");
		b.canvas.setAttribute("role", "img");
		b.canvas.setAttribute("aria-label", "Map of " + plain(b.name) + ": " + blockNumbers(b));
		const holder = make("div", "", b.canvas);
		box.append(holder);
		b.canvas.addEventListener("pointermove", (e) => tipOfMap(b, e));
		b.canvas.addEventListener("pointerdown", (e) => tipOfMap(b, e));
		b.canvas.addEventListener("pointerleave", hideTip);
	}
	box.append(make("p", "numbers", blockNumbers(b)));
}

function showLegend() {
	const legend = $(".legend"), sample = (kind) => make("i", "k-" + kind);
	legend.append(make("span", "", sample("absent"), "zero or absent"));
	for (const [layer, name, kind] of LAYERS) {
		if (!data.blocks.some((b) => b[layer] !== undefined)) continue;
		const box = make("input");
		box.type = "checkbox";
		box.checked = true;
		box.addEventListener("change", () => { box.checked ? hidden.delete(layer) : hidden.add(layer); drawAll(); });
		legend.append(make("label", "", box, sample(kind), name));
	}
}

function drawAll() {
	for (const b of data.blocks) if (b.canvas) draw(b);
}

function showMemory() {
	$("#memory .lead").textContent = "Each square is a part of a RAM block, from its first byte, row by row. A paler square is present in part. Point at a square for its place.";
	showLegend();
	data.blocks.forEach(showBlock);
	drawAll();
}

/* --- devices --- */

/* Squarified: rows are filled along the shorter side as long as that makes their tiles squarer. `items` are sorted by value. */
function tiles(items, x, y, w, h) {
	const out = [], total = items.reduce((n, i) => n + i.value, 0);
	let left = total ? w * h / total : 0, at = 0;
	while (at < items.length) {
		const side = Math.min(w, h);
		let row = [], area = 0, worst = Infinity;
		for (let k = at; k < items.length; k++) {
			const a = items[k].value * left, sum = area + a;
			const large = (row.length ? items[row[0]].value : items[k].value) * left;
			const now = Math.max(side * side * large / (sum * sum), sum * sum / (side * side * a));
			if (now > worst) break;
			row.push(k);
			area = sum;
			worst = now;
		}
		const thick = side ? area / side : 0;
		let along = 0;
		for (const k of row) {
			const length = thick ? items[k].value * left / thick : 0;
			out.push(w >= h ? {item: items[k], x, y: y + along, w: thick, h: length} : {item: items[k], x: x + along, y, w: length, h: thick});
			along += length;
		}
		if (w >= h) { x += thick; w -= thick; } else { y += thick; h -= thick; }
		at += row.length;
	}
	return out;
}

const TILES = 150;
let chosen = null;
const deviceName = (d) => plain(d.name) + (d.instance ? " / " + d.instance : "");
const family = (name) => [...name.replace(/^.*\//, "")].reduce((n, c) => (n * 31 + c.codePointAt(0)) % 6007, 7) % 6;

function tileItems() {
	const sorted = data.devices.filter((d) => d.bytes).sort((a, b) => b.bytes - a.bytes);
	const items = sorted.slice(0, TILES).map((d) => ({device: d, value: d.bytes, label: deviceName(d)}));
	const rest = sorted.slice(TILES);
	if (rest.length) {
		items.push({value: rest.reduce((n, d) => n + d.bytes, 0), label: count(rest.length, "smaller device")});
		items.sort((a, b) => b.value - a.value);
	}
	return items;
}

function showTree() {
	const tree = $(".tree");
	tree.replaceChildren();
	for (const t of tiles(tileItems(), 0, 0, tree.clientWidth, tree.clientHeight)) {
		const d = t.item.device, b = make("button", "k-" + (d ? family(d.name) : 0) + (d && d === chosen ? " chosen" : ""));
		b.type = "button";
		Object.assign(b.style, {left: t.x + "px", top: t.y + "px", width: t.w + "px", height: t.h + "px"});
		if (t.w < 40 || t.h < 22) b.style.padding = "0";
		if (t.w >= 40 && t.h >= 22) b.append(make("span", "", t.item.label));
		if (t.w >= 40 && t.h >= 40) b.append(make("span", "size", size(t.item.value)));
		const text = t.item.label + "\n" + size(t.item.value) + (d ? ", version " + d.version + ", at " + hex(d.offset) + (d.early ? ", before memory" : "") : "");
		b.setAttribute("aria-label", text.replace("\n", ", "));
		b.addEventListener("pointermove", (e) => showTip(text, e.clientX, e.clientY));
		b.addEventListener("pointerleave", hideTip);
		if (d) b.addEventListener("click", () => { chosen = d === chosen ? null : d; showTree(); showFields(); });
		tree.append(b);
	}
}

function showDevices() {
	$("#devices .lead").textContent = data.devices.length ? "Each rectangle is a device, as large as its state. Choose one to see its fields below."
		: "There are no devices: this is memory alone.";
	$(".tree").hidden = !data.devices.length;
	showTree();
}

/* --- fields --- */

const ROWS = 300;
const allFields = data.devices.flatMap((d) => (d.fields || []).map(([path, type, offset, bytes, depth, elements, value]) =>
	({d, path: plain(path), type: plain(type) + (elements > 1 ? " x " + elements : ""), offset, bytes, depth, value,
		text: [d.name + "/" + d.instance, path, type, value === null ? "" : value].join(" ").toLowerCase()})));

function row(f) {
	const tr = make("tr", f.value === null ? "struct" : "");
	tr.append(make("td", "", deviceName(f.d)), make("td", "code field", f.path), make("td", "type", f.type), make("td", "number", String(f.offset)),
		make("td", "code", f.value === null ? "" : plain(f.value)));
	return tr;
}

function showFields() {
	const words = $("#query").value.toLowerCase().split(/\s+/).filter(Boolean);
	const found = allFields.filter((f) => (!chosen || f.d === chosen) && words.every((w) => f.text.includes(w)));
	$("#clear").hidden = !chosen;
	let lead = count(found.length, "field") + (chosen ? " of " + deviceName(chosen) : words.length ? " found" : " in " + count(data.devices.length, "device"));
	if (!guest.described) lead = "The file has no VM description, so the fields of its devices are not known.";
	else if (found.length > ROWS) lead += "; the first " + ROWS + " are shown. Search, or choose a device above.";
	$("#fields .lead").textContent = lead;
	$("#fields tbody").replaceChildren(...found.slice(0, ROWS).map(row));
}

/* --- bytes --- */

function showBytes() {
	const b = guest.bytes, known = b.pages + b.xbzrle + b.devices + b.description + b.framing;
	const parts = [["pages", b.pages, "present"], ["page deltas", b.xbzrle, "1"], ["devices", b.devices, "wanted"], ["description", b.description, "2"],
		["framing", b.framing, "3"], [guest.format === "image" ? "holes and headers" : "other", Math.max(0, b.all - known), "absent"]];
	for (const [name, bytes, kind] of parts) {
		if (!bytes) continue;
		const piece = make("div", "k-" + kind);
		piece.style.width = 100 * bytes / b.all + "%";
		$(".bar").append(piece);
		$(".shares").append(make("li", "", make("i", "k-" + kind), name + ": " + size(bytes) + " (" + share(bytes, b.all) + ")"));
	}
	$(".shares").append(make("li", "", "all: " + size(b.all)));
}

showGuest();
showSentences();
showMemory();
showDevices();
showFields();
showBytes();
$("#query").addEventListener("input", showFields);
$("#clear").addEventListener("click", () => { chosen = null; showTree(); showFields(); });
let width = window.innerWidth;
window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; drawAll(); showTree(); } });
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
window.addEventListener("scroll", hideTip, {passive: true});
})();
