// What a screen reader or tired eyes would miss on this page, as a list of sentences in JSON.
() => {
  const faults = [];
  const said = (node) => `<${node.tagName.toLowerCase()} id="${node.id}" class="${node.className}">`;
  const visible = (node) => node.checkVisibility({ visibilityProperty: true })
    && !node.closest(".unseen, [inert], [aria-hidden=true]");
  const all = [...document.querySelectorAll("body *")];

  // Names.
  const spoken = (node) => node.getAttribute("aria-label")
    || [...(node.labels ?? [])].map((label) => label.textContent).join("")
    || document.getElementById(node.getAttribute("aria-labelledby"))?.textContent
    || node.textContent;
  for (const node of document.querySelectorAll(
    "a, button, input, select, summary, audio, canvas[tabindex], [role=region], [role=listbox]")) {
    if (visible(node) && !spoken(node).trim()) faults.push(`${said(node)} has no name`);
  }
  for (const node of document.querySelectorAll("svg")) {
    if (!node.getAttribute("aria-label") && node.getAttribute("aria-hidden") !== "true") {
      faults.push(`${said(node)} is neither named nor hidden`);
    }
  }

  // References and ids.
  const ids = all.map((node) => node.id).filter(Boolean);
  for (const id of ids) if (ids.filter((one) => one === id).length > 1) faults.push(`two are called ${id}`);
  for (const name of ["aria-controls", "aria-labelledby", "aria-describedby", "aria-activedescendant"]) {
    for (const node of document.querySelectorAll(`[${name}]`)) {
      if (!visible(node)) continue;
      if (!document.getElementById(node.getAttribute(name))) faults.push(`${said(node)}: ${name} leads nowhere`);
    }
  }

  // Landmarks, language, headings without a gap.
  for (const landmark of ["header", "nav", "main", "search, [role=search]", "[role=status]"]) {
    if (!document.querySelector(landmark)) faults.push(`there is no ${landmark}`);
  }
  if (document.documentElement.lang !== "en" || !document.title) faults.push("no language or title");
  let level = 0;
  for (const node of document.querySelectorAll("h1, h2, h3")) {
    if (!visible(node)) continue;
    const now = Number(node.tagName[1]);
    if (level && now > level + 1) faults.push(`${said(node)} stands below a heading of level ${level}`);
    level = now;
  }

  // Contrast of every text with what lies behind it.
  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
  const linear = (value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255)
    + 0.0722 * linear(b / 255);
  const behind = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const [r, g, b, a = 1] = numbers(getComputedStyle(one).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return numbers(getComputedStyle(document.body).backgroundColor);
  };
  let read = 0;
  for (const node of all) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !visible(node) || node.closest("noscript, option")) continue;
    const style = getComputedStyle(node);
    const ink = luminance(numbers(node instanceof SVGElement ? style.fill : style.color));
    const ground = luminance(behind(node));
    const ratio = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
    read += 1;
    if (ratio < 4.5) faults.push(`${said(node)} has a contrast of ${ratio.toFixed(2)}`);
  }
  if (read < 4) faults.push(`only ${read} texts were read`);

  // Size of what is touched (WCAG 2.5.8: 24 pixels, or enough room around).
  for (const node of document.querySelectorAll("button, select, summary")) {
    if (!visible(node)) continue;
    const { height } = node.getBoundingClientRect();
    if (height && height < 19) faults.push(`${said(node)} is only ${height} pixels high`);
  }
  return JSON.stringify(faults);
}
