"use strict";

// The page asks for the state every second and shows it. Names of files are only ever set as text, never as markup.

const EVERY = 1000, PICTURES = 8;
const byId = id => document.getElementById(id);
const drawing = "http://www.w3.org/2000/svg";

function time(seconds) {
  if (seconds === null || seconds === undefined) return "-";
  if (seconds < 9.95) return seconds.toFixed(1) + " s";
  const whole = Math.round(seconds);
  if (whole < 60) return whole + " s";
  if (whole < 3600) return Math.floor(whole / 60) + " min " + String(whole % 60).padStart(2, "0") + " s";
  return Math.floor(whole / 3600) + " h " + String(Math.floor(whole % 3600 / 60)).padStart(2, "0") + " min";
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function state(news) {
  const place = byId("state");
  let words = "Keeps up", kind = "";
  if (news.gone) {
    [words, kind] = ["The folder cannot be read; waiting for it", "bad"];
  } else if (news.queue >= 2) {
    words = news.queue + " slices behind, the oldest has waited " + time(news.now - news.oldest);
    kind = "late";
  }
  if (news.late) {
    words += "; the faster model is at work";
    kind = kind || "late";
  }
  if (news.now_at && news.now_at.length) words += "; at " + news.now_at.join(", ");
  place.textContent = words;
  place.className = kind;
}

function figures(news) {
  const last = news.slices[news.slices.length - 1];
  byId("folder").textContent = news.folder;
  document.title = news.done + " slices of " + news.folder;
  byId("done").textContent = news.done;
  byId("queue").textContent = news.queue;
  byId("delay").textContent = time(last ? last.delay : null);
  byId("seconds").textContent = time(news.seconds);
  byId("interval").textContent = time(news.interval);
  byId("model").textContent = news.model + (news.late ? " (late)" : "");
}

function pictures(news) {
  const shown = news.slices.slice(-PICTURES).reverse();
  const place = byId("slices"), there = new Map();
  for (const figure of place.children) there.set(figure.dataset.picture, figure);
  // A picture that is there already is kept, so that nothing flickers.
  place.replaceChildren(...shown.map(slice => there.get(String(slice.picture)) || figureOf(slice)));
}

function figureOf(slice) {
  const figure = element("figure"), image = element("img"), caption = element("figcaption");
  figure.dataset.picture = slice.picture;
  image.src = "picture/" + slice.picture + ".png";
  image.alt = "Outline of the membrane in " + slice.name;
  caption.append(element("b", slice.name), slice.model + (slice.late ? ", the faster model" : "") + ", in " + time(slice.seconds) + ", " +
                 time(slice.delay) + " after it came; " + (100 * slice.membrane).toFixed(1) + " % membrane");
  if (slice.drift) caption.append(element("span", "; " + slice.drift, "warn"));
  figure.append(image, caption);
  return figure;
}

function failures(news) {
  const all = Object.entries(news.failed || {});
  byId("troubles").hidden = !all.length;
  byId("failed").replaceChildren(...all.map(([name, sentence]) => element("li", sentence.includes(name) ? sentence : name + ": " + sentence)));
}

function shape(name, numbers, className, text) {
  const made = document.createElementNS(drawing, name);
  for (const [key, value] of Object.entries(numbers)) made.setAttribute(key, value);
  made.setAttribute("class", className);
  if (text !== undefined) made.textContent = text;
  return made;
}

function grey(news) {
  const place = byId("drift"), words = byId("grey"), slices = news.slices, usual = news.usual;
  if (!slices.length || !usual) return;
  const last = slices[slices.length - 1];
  words.textContent = last.name + ": mean " + last.mean.toFixed(1) + ", standard deviation " + last.std.toFixed(1) + "; trained on " +
    usual.mean.toFixed(1) + " and " + usual.std.toFixed(1) + ". " +
    (last.drift ? "Unlike the training data: " + last.drift + "." : "As usual.");
  words.className = last.drift ? "warn" : "";
  const lows = slices.map(slice => slice.mean - slice.std).concat(usual.mean - usual.std);
  const highs = slices.map(slice => slice.mean + slice.std).concat(usual.mean + usual.std);
  const low = Math.min(...lows), high = Math.max(...highs), left = 44, right = 590;
  const y = value => 148 - 136 * (value - low) / Math.max(high - low, 1e-9);
  const x = number => left + 12 + (right - left - 24) * (slices.length > 1 ? number / (slices.length - 1) : .5);
  const top = y(usual.mean + usual.std), middle = y(usual.mean);
  const parts = [shape("rect", {x: left, y: top, width: right - left, height: y(usual.mean - usual.std) - top}, "usual"),
                 shape("line", {x1: left, x2: right, y1: middle, y2: middle}, "middle"),
                 shape("text", {x: 4, y: 16}, "", high.toFixed(0)), shape("text", {x: 4, y: 150}, "", low.toFixed(0))];
  slices.forEach((slice, number) => {
    parts.push(shape("line", {x1: x(number), x2: x(number), y1: y(slice.mean - slice.std), y2: y(slice.mean + slice.std)}, "spread"),
               shape("circle", {cx: x(number), cy: y(slice.mean), r: 3.5}, slice.drift ? "odd" : "mean"));
  });
  place.replaceChildren(...parts);
}

async function refresh() {
  try {
    const answer = await fetch("state.json", {cache: "no-store"});
    const news = await answer.json();
    if (news.folder !== undefined) [state, figures, pictures, failures, grey].forEach(show => show(news));
  } catch (error) {
    byId("state").textContent = "The watch has ended, or cannot be reached";
    byId("state").className = "bad";
  }
  setTimeout(refresh, EVERY);
}

refresh();
