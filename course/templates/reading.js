"use strict";
// Points by key: a digit gives them to the answer in focus and goes on; "j" and "k" move, "c" goes to the comment,
// Escape leaves it. Comments given before are buttons. What is given is saved at once; what could not be says so.
const main = document.querySelector("main"), most = Number(main.dataset.points);
const answers = [...document.querySelectorAll("article")];

async function save(answer) {
  const points = answer.querySelector("[name=points]"), said = answer.querySelector("[role=status]");
  const score = points.value.trim() === "" ? null : Number(points.value.replace(",", "."));
  if (score !== null && !(score >= 0 && score <= most)) { said.textContent = `from 0 to ${most}`; return false; }
  said.textContent = "saving …";
  try {
    const reply = await fetch(answer.dataset.place, {
      method: "POST", credentials: "same-origin", headers: {"X-XSRFToken": main.dataset.xsrf},
      body: JSON.stringify({score, comment: answer.querySelector("textarea").value}),
    });
    if (!reply.ok) throw new Error(reply.statusText);
    const found = await reply.json();
    document.querySelector("#waiting").textContent = found.waiting;
    answer.querySelector(".comment").innerHTML = found.comment;  // made harmless by the server
    said.textContent = "saved";
    return true;
  } catch (error) { said.textContent = `not saved: ${error.message}`; return false; }
}

function go(from, step) {
  const next = answers[Math.min(Math.max(answers.indexOf(from) + step, 0), answers.length - 1)];
  if (next) { next.focus(); next.scrollIntoView({block: "nearest"}); }
}

for (const answer of answers) {
  const points = answer.querySelector("[name=points]"), comment = answer.querySelector("textarea");
  points.addEventListener("change", () => save(answer));
  comment.addEventListener("change", () => save(answer));
  answer.addEventListener("keydown", async (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Escape") { answer.focus(); return; }
    if (event.target !== answer) return;
    if (/^[0-9]$/.test(event.key) && Number(event.key) <= most) {
      event.preventDefault();
      points.value = event.key;
      if (await save(answer)) go(answer, 1);
    } else if (event.key === "j" || event.key === "k") {
      event.preventDefault();
      go(answer, event.key === "j" ? 1 : -1);
    } else if (event.key === "c") {
      event.preventDefault();
      comment.focus();
    }
  });
  for (const button of answer.querySelectorAll("button")) {
    button.addEventListener("click", () => {
      comment.value = [comment.value.trim(), button.textContent].filter(Boolean).join("\n");
      save(answer);
    });
  }
}
if (answers.length) answers[0].focus();
