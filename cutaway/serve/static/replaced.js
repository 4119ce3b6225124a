// Says in place of the last answer that the page is of a model that was replaced: the next picture gets none here.
const ask = window.fetch;
window.fetch = async (...asked) => {
  const answer = await ask(...asked);
  if (answer.status === 409 && !document.body.classList.contains("cw-replaced")) {
    document.body.classList.add("cw-replaced");
    const said = document.createElement("p");
    said.className = "cw-failure";
    said.setAttribute("role", "alert");
    said.append("The model was replaced since this page was opened. ");
    const again = document.createElement("a");
    again.href = "";
    again.textContent = "Reload the page";
    said.append(again);
    element.append(said);
  }
  return answer;
};
