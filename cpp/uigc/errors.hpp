// What is thrown: the errors of the Python package (runtime/errors.py), with the same exit codes. Each message is one
// sentence with the fact, what was expected, and what to do.

#pragma once

#include <stdexcept>
#include <string>

namespace uigc {

enum class ExitCode {
    internal = 1,
    usage = 2,
    input = 3,
    output = 4,
    unrecognized_file = 5,
    unsupported_version = 6,
    prior_mismatch = 7,
    corrupt_file = 8,
    too_large = 9,
    bundle = 10,
    provider = 11,
    inexact = 13,
};

// The base of all errors below. No grid and no image is ever returned besides.
class Error : public std::runtime_error {
   public:
    Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}

    // The code that a program ends with; docs/CLI.md lists them.
    int exit_code() const noexcept { return static_cast<int>(code_); }

   private:
    ExitCode code_;
};

// An error class of its own for each exit code.
template <ExitCode code>
class ErrorOf : public Error {
   public:
    explicit ErrorOf(const std::string& message) : Error(code, message) {}
};

using UsageError = ErrorOf<ExitCode::usage>;                             // arguments that do not fit
using InputError = ErrorOf<ExitCode::input>;                             // a file that cannot be read
using OutputError = ErrorOf<ExitCode::output>;                           // one that exists or cannot be written
using UnrecognizedFileError = ErrorOf<ExitCode::unrecognized_file>;      // not a .uigc file
using UnsupportedVersionError = ErrorOf<ExitCode::unsupported_version>;  // a file of a newer version of the format
using PriorMismatchError = ErrorOf<ExitCode::prior_mismatch>;            // a file written with another prior
using CorruptFileError = ErrorOf<ExitCode::corrupt_file>;                // a truncated or damaged file
using TooLargeError = ErrorOf<ExitCode::too_large>;                      // an image beyond the limits on its size
using BundleError = ErrorOf<ExitCode::bundle>;                           // a missing or inconsistent bundle or model
using ProviderError = ErrorOf<ExitCode::provider>;                       // networks that return nonsense, or do not run
using InexactError = ErrorOf<ExitCode::inexact>;                         // a prior that was not computed exactly

namespace detail {

// Returns the error for what only a prior that was not computed exactly can lead to.
inline InexactError inexact(const std::string& fact) {
    return InexactError(fact + ", which means that the prior was not computed exactly; decode with another backend and "
                               "report this one.");
}

}  // namespace detail
}  // namespace uigc
