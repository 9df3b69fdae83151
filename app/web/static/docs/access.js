"use strict";

// Swagger UI leaves some controls without a name, and some out of reach of the keyboard (WCAG 2.2, 2.1.1, 2.5.3, 4.1.2).
const ACCESS = [
  [":is([data-param-name], [data-property-name]) :is(input, select, textarea)", (control) => {
    const {paramName, propertyName} = control.closest("[data-param-name], [data-property-name]").dataset;
    name(control, paramName ?? propertyName);
  }],
  [".body-param__text", (control) => name(control, "Request body")],
  ["#servers", (control) => name(control, "Server")],
  [".close-modal", (control) => name(control, "Close")],
  [".microlight", (code) => code.setAttribute("tabindex", "0")], // it may be scrolled
  [".auth-btn-wrapper [aria-label]", (control) => control.removeAttribute("aria-label")], // it contradicts the text
];

function name(control, label) {
  control.setAttribute("aria-label", label);
}

let dialog = null;

// Each box of the dialog takes the focus when it appears, so that the last has it; the first one should.
function begin() {
  const shown = document.querySelector("#swagger-ui .modal-ux");
  if (shown && shown !== dialog) {
    shown.querySelector("input")?.focus();
    shown.querySelector(".modal-ux-content").scrollTop = 0;
  }
  dialog = shown;
}

new MutationObserver(() => {
  begin();
  for (const [selector, mend] of ACCESS) document.querySelectorAll(`#swagger-ui :is(${selector})`).forEach(mend);
}).observe(document.getElementById("swagger-ui"), {childList: true, subtree: true});
