// Says in place of the last answer why the next picture gets none on this page: its model was replaced, or its login ended.
const WHY = { 401: "Nobody is logged in here any more. ", 409: "The model was replaced since this page was opened. " };
const ask = window.fetch;
window.fetch = async (...asked) => {
  const answer = await ask(...asked);
  if (answer.status in WHY && !document.body.classList.contains("cw-replaced")) {
    document.body.classList.add("cw-replaced");
    const said = document.createElement("p");
    said.className = "cw-failure";
    said.setAttribute("role", "alert");
    said.append(WHY[answer.status]);
    const again = document.createElement("a");
    again.href = "";
    again.textContent = "Reload the page";
    said.append(again);
    element.append(said);
  }
  return answer;
};
