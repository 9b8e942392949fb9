"use strict";
// Draws every figure of the page with the colours of the page, and again when the reader's system turns dark or light.
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);

  // "@name" under a key that ends in "color", and in a "colorscale", becomes the page's variable --name; names of clients are left alone.
  function themed(value, style, key) {
    if (typeof value === "string" && value.startsWith("@") && /color(scale)?$/.test(key)) {
      return style.getPropertyValue("--" + value.slice(1)).trim();
    }
    if (Array.isArray(value)) return value.map((item) => themed(item, style, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, themed(item, style, name)]));
    }
    return value;
  }

  function draw() {
    const style = getComputedStyle(document.documentElement);
    const axis = { gridcolor: "@rule", zerolinecolor: "@rule", linecolor: "@rule" };
    for (const [id, figure] of Object.entries(figures)) {
      const layout = structuredClone(figure.layout);
      layout.xaxis = { ...axis, ...layout.xaxis };
      layout.yaxis = { ...axis, ...layout.yaxis };
      layout.font = { color: "@ink", family: getComputedStyle(document.body).fontFamily, size: 13 };
      layout.hoverlabel = { bgcolor: "@panel", bordercolor: "@rule", font: { color: "@ink" } };
      layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
      layout.autosize = true;
      Plotly.react(id, themed(figure.data, style, ""), themed(layout, style, ""), {
        responsive: true, displaylogo: false, displayModeBar: false,
      });
    }
  }

  draw();
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
