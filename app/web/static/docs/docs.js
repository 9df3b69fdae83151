"use strict";

// Swagger UI has a dark theme but leaves it to the page to choose.
const dark = matchMedia("(prefers-color-scheme: dark)");
const followColourScheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", followColourScheme);
followColourScheme();

SwaggerUIBundle({
  dom_id: "#swagger-ui",
  url: "openapi.json",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false, // A token lives as long as the page, never in the browser's storage.
  tryItOutEnabled: true,
  validatorUrl: null, // The default validator is another host.
});
