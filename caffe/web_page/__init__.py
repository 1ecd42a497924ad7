"""The base of the HTML pages that commands write: one template and one style sheet."""
