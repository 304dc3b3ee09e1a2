// The errors that users meet. Each is one sentence with the fact, what was expected and what to do; names and exit codes
// are those of docs/CLI.md, whatever language decodes.

export class UigcError extends Error {
  static exitCode = 1;

  constructor(message, options) {
    super(message, options);
    this.name = this.constructor.kind;
  }

  // A minifier may rename classes, so the kind is stated and not taken from the class's name.
  static kind = "UigcError";

  get exitCode() {
    return this.constructor.exitCode;
  }

  // Errors lose their class on the way out of a Worker; what is left of them passes as data.
  toData() {
    return { kind: this.name, exitCode: this.exitCode, message: this.message };
  }

  static fromData({ kind, message }) {
    return new (KINDS.find((error) => error.kind === kind) ?? UigcError)(message);
  }
}

export class UnrecognizedFileError extends UigcError {
  static kind = "UnrecognizedFileError";
  static exitCode = 5;
}

export class UnsupportedVersionError extends UigcError {
  static kind = "UnsupportedVersionError";
  static exitCode = 6;
}

export class PriorMismatchError extends UigcError {
  static kind = "PriorMismatchError";
  static exitCode = 7;
}

export class CorruptFileError extends UigcError {
  static kind = "CorruptFileError";
  static exitCode = 8;
}

export class TooLargeError extends UigcError {
  static kind = "TooLargeError";
  static exitCode = 9;
}

export class BundleError extends UigcError {
  static kind = "BundleError";
  static exitCode = 10;
}

export class ProviderError extends UigcError {
  static kind = "ProviderError";
  static exitCode = 11;
}

export class InexactError extends UigcError {
  static kind = "InexactError";
  static exitCode = 13;
}

const KINDS = [
  UnrecognizedFileError,
  UnsupportedVersionError,
  PriorMismatchError,
  CorruptFileError,
  TooLargeError,
  BundleError,
  ProviderError,
  InexactError,
];
