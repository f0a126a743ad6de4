// A dash before a word excludes it in a search; here it is part of an option such as --fallback, so it is left out.
window.Worker = class extends window.Worker {
  constructor(...given) {
    super(...given);
    const post = this.postMessage.bind(this);
    this.postMessage = (message, ...more) => {
      if (typeof message?.data === "string")
        message = { ...message, data: message.data.replace(/(^|[\s"])-+(?=[^\s-])/g, "$1") };
      post(message, ...more);
    };
  }
};
