// Takes a picture that is pasted by keyboard anywhere on the page. The button reads the clipboard itself, which browsers
// allow on this machine and over HTTPS alone.
document.onpaste = (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
  const input = document.querySelector("#input-image input[type=file]");
  if (!file || !input || !document.getElementById("input-image").checkVisibility()) return;
  event.preventDefault();
  const transfer = new DataTransfer();
  transfer.items.add(file);
  input.files = transfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
};
