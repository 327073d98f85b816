"use strict";
(() => {
  // What fits between the margins of A4 at 96 pixels an inch, less a little.
  const PRINTED_WIDTH = 680;
  const GAP = 10;
  const config = { responsive: true, displaylogo: false, displayModeBar: false };
  const plots = [];

  // Numbers in the cells of a map are as large as the cells allow.
  const fitText = (plot) => {
    plot.data.forEach((trace, index) => {
      if (!trace.meta || !trace.meta.columns) return;
      const cell = plot._fullLayout._size.w / trace.meta.columns;
      const size = Math.min(12, (1.55 * cell) / trace.meta.letters);
      // Too small to be read: the colour, and the table beside the map, have to do.
      Plotly.restyle(plot, { visible: size >= 6, "textfont.size": size }, [index]);
    });
  };

  for (const figure of document.querySelectorAll("figure")) {
    const plot = figure.querySelector(".plot");
    const { data, layout } = JSON.parse(figure.querySelector("script").textContent);
    // A finger that scrolls the page must not zoom into a figure.
    if (window.matchMedia("(pointer: coarse)").matches) layout.dragmode = false;
    Plotly.newPlot(plot, data, layout, config).then(() => fitText(plot));
    plots.push(plot);
  }

  for (const select of document.querySelectorAll("select[data-for]")) {
    select.addEventListener("change", () => {
      const chosen = Number(select.value);
      for (const figure of document.getElementById(select.dataset.for).querySelectorAll("figure")) {
        const plot = figure.querySelector(".plot");
        const shown = plot.data.map((trace) => !trace.meta || trace.meta.choice === undefined || trace.meta.choice === chosen);
        Plotly.restyle(plot, { visible: shown });
        const captions = JSON.parse(figure.dataset.captions);
        figure.querySelector("figcaption").textContent = captions[chosen];
      }
    });
  }

  const opened = [];
  let resizing = null;
  window.addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(() => plots.forEach(fitText), 200);
  });
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not([open]):not(.long)")) {
      details.open = true;
      opened.push(details);
    }
    for (const plot of plots) {
      const columns = plot.closest(".multiples") ? 2 : 1;
      Plotly.relayout(plot, { width: (PRINTED_WIDTH - (columns - 1) * GAP) / columns });
      fitText(plot);
    }
  });
  window.addEventListener("afterprint", () => {
    while (opened.length) opened.pop().open = false;
    for (const plot of plots) {
      Plotly.relayout(plot, { width: null, autosize: true });
      Plotly.Plots.resize(plot);
      fitText(plot);
    }
  });
  document.documentElement.dataset.drawn = plots.length;
})();
