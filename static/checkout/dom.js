/* The little that the pages need of a framework: templates in, elements out. Data only ever becomes text. */

import { t } from "./strings.js";

export const $ = (id) => document.getElementById(id);

/** A fresh copy of `<template id="t-name">`. */
export function copy(name) {
  return $(`t-${name}`).content.firstElementChild.cloneNode(true);
}

/** Fill in the words of every `data-t`, and the names of every `data-t-name`, in `root`. */
export function translate(root, values) {
  for (const element of root.querySelectorAll("[data-t]")) put(element, t(element.dataset.t, values));
  for (const element of root.querySelectorAll("[data-t-name]")) {
    element.setAttribute(element.tagName === "IMG" ? "alt" : "aria-label", t(element.dataset.tName, values));
  }
}

/** Change a text only where it differs: screen readers are left in peace. */
export function put(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

/** Say something to those who can't see the page change. */
export function announce(words) {
  put($("announcer"), words);
}
