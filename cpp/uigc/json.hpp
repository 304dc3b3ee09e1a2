// A strict reader of JSON, for the manifest and the header of the weights, so that cpp/ needs nothing but a compiler.
//
// It reads what runtime/bundle/strict_json.py reads: RFC 8259 in UTF-8, without the same key twice in an object,
// numbers of endless length, or arrays and objects nested without end (limits.hpp).

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <locale>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "limits.hpp"

namespace uigc::detail {

struct Json {
    enum class Kind { null, boolean, integer, real, text, array, object };

    Kind kind = Kind::null;
    std::int64_t integer = 0;  // of an integer of at most 18 digits, and 0 or 1 for false and true
    double real = 0;           // of any number, and of false and true
    std::string text;
    std::vector<Json> items;
    std::map<std::string, Json> members;

    bool is_object() const noexcept { return kind == Kind::object; }
    bool is_array() const noexcept { return kind == Kind::array; }
    bool is_boolean() const noexcept { return kind == Kind::boolean; }
    bool is_number() const noexcept { return kind == Kind::integer || kind == Kind::real || kind == Kind::boolean; }

    // Returns whether it is this number (1.0 and true are 1, as in Python) or this text.
    bool is(std::int64_t number) const noexcept { return is_number() && real == static_cast<double>(number); }
    bool is(const std::string& wanted) const { return kind == Kind::text && text == wanted; }

    // Returns whether it is an integer from `least` to `largest`.
    bool is_integer(std::int64_t least, std::int64_t largest) const noexcept {
        return kind == Kind::integer && least <= integer && integer <= largest;
    }

    // Returns a member of an object; null if there is none, or if it is no object.
    const Json& operator[](const std::string& key) const {
        static const Json none;
        const auto found = members.find(key);
        return found == members.end() ? none : found->second;
    }
    bool has(const std::string& key) const { return members.count(key) != 0; }
};

// Returns whether the bytes are UTF-8: no overlong form, no surrogate, nothing beyond U+10FFFF.
inline bool is_utf8(const std::string& text) noexcept {
    for (std::size_t index = 0; index < text.size();) {
        const auto byte = [&](std::size_t offset) -> std::uint32_t {
            return index + offset < text.size() ? static_cast<std::uint8_t>(text[index + offset]) : 0u;
        };
        const std::uint32_t first = byte(0);
        std::size_t length = 1;
        if (first >= 0x80) length = first >> 5 == 6 ? 2 : first >> 4 == 14 ? 3 : first >> 3 == 30 ? 4 : 0;
        if (length == 0) return false;
        std::uint32_t code = length == 1 ? first : first & (0x7Fu >> length);
        for (std::size_t offset = 1; offset < length; ++offset) {
            if (byte(offset) >> 6 != 2) return false;
            code = code << 6 | (byte(offset) & 0x3Fu);
        }
        constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
        if (code < least[length] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
        index += length;
    }
    return true;
}

class JsonReader {
   public:
    // Reads the only value of a text; throws a BundleError that says where it goes wrong.
    static Json read(const std::string& text) {
        if (!is_utf8(text)) throw BundleError("The bundle's JSON is not in UTF-8; export the bundle again.");
        JsonReader reader(text);
        Json found = reader.value(1);
        if (reader.peek() != '\0' || reader.next_ != text.size()) reader.fail("something behind its end");
        return found;
    }

   private:
    explicit JsonReader(const std::string& text) : text_(text) {}

    [[noreturn]] void fail(const std::string& fault) const {
        throw BundleError("The bundle's JSON has " + fault + " at byte " + std::to_string(next_) +
                          "; export the bundle again.");
    }

    char current() const noexcept { return next_ < text_.size() ? text_[next_] : '\0'; }

    char peek() noexcept {  // the next character that is not white space
        while (current() == ' ' || current() == '\n' || current() == '\r' || current() == '\t') ++next_;
        return current();
    }

    bool take(char wanted) noexcept {
        if (peek() != wanted || next_ >= text_.size()) return false;
        ++next_;
        return true;
    }

    void expect(char wanted) {
        if (!take(wanted)) fail(std::string("no '") + wanted + "'");
    }

    Json value(std::size_t depth) {
        if (depth > limits::json_depth) fail("too many arrays and objects inside each other");
        if (++values_ > limits::json_values) fail("too many values");
        Json found;
        const char first = peek();
        if (first == '{') {
            object(found, depth);
        } else if (first == '[') {
            array(found, depth);
        } else if (first == '"') {
            found.kind = Json::Kind::text;
            found.text = string();
        } else if (first == '-' || is_digit(first)) {
            number(found);
        } else {
            word(found);
        }
        return found;
    }

    void object(Json& found, std::size_t depth) {
        found.kind = Json::Kind::object;
        expect('{');
        if (take('}')) return;
        do {
            if (peek() != '"') fail("no key");
            std::string key = string();
            expect(':');
            if (found.has(key)) fail("the same key twice");
            found.members.emplace(std::move(key), value(depth + 1));
        } while (take(','));
        expect('}');
    }

    void array(Json& found, std::size_t depth) {
        found.kind = Json::Kind::array;
        expect('[');
        if (take(']')) return;
        do {
            found.items.push_back(value(depth + 1));
        } while (take(','));
        expect(']');
    }

    void word(Json& found) {  // true, false, null
        const auto is = [this](const std::string& wanted) { return text_.compare(next_, wanted.size(), wanted) == 0; };
        if (is("null")) {
            next_ += 4;
        } else if (is("true") || is("false")) {
            found.kind = Json::Kind::boolean;
            found.integer = current() == 't';
            found.real = static_cast<double>(found.integer);
            next_ += found.integer ? 4 : 5;
        } else {
            fail("no value");
        }
    }

    static bool is_digit(char character) noexcept { return '0' <= character && character <= '9'; }

    void digits() {
        if (!is_digit(current())) fail("a malformed number");
        while (is_digit(current())) ++next_;
    }

    void number(Json& found) {
        const std::size_t begin = next_;
        if (current() == '-') ++next_;
        if (current() == '0') ++next_;  // nothing may follow a leading zero
        else digits();
        const std::size_t whole = next_;
        if (current() == '.') ++next_, digits();
        if (current() == 'e' || current() == 'E') {
            ++next_;
            if (current() == '+' || current() == '-') ++next_;
            digits();
        }
        if (next_ - begin > limits::json_number) fail("a number that is too long");
        const std::string written = text_.substr(begin, next_ - begin);
        std::istringstream stream(written);
        stream.imbue(std::locale::classic());
        stream >> found.real;  // the largest number if it is beyond all
        const bool fits = next_ == whole && written.size() <= 18;
        found.kind = fits ? Json::Kind::integer : Json::Kind::real;
        if (fits) found.integer = std::stoll(written);
    }

    std::uint32_t hexadecimal() {  // four digits
        std::uint32_t code = 0;
        for (int index = 0; index < 4; ++index, ++next_) {
            const char digit = current();
            const bool upper = 'A' <= digit && digit <= 'F', lower = 'a' <= digit && digit <= 'f';
            if (!is_digit(digit) && !upper && !lower) fail("a malformed escape");
            const int base = is_digit(digit) ? '0' : (upper ? 'A' : 'a') - 10;
            code = code << 4 | static_cast<std::uint32_t>(digit - base);
        }
        return code;
    }

    void escape(std::string& found) {
        static constexpr char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
        const char name = current();
        ++next_;
        if (name != 'u') {
            const char* const at = std::find(names, names + 8, name);
            if (at == names + 8) fail("a malformed escape");
            found += meanings[at - names];
            return;
        }
        std::uint32_t code = hexadecimal();
        if (code >> 10 == 0x36 && text_.compare(next_, 2, "\\u") == 0) {  // the first half of a pair
            const std::size_t after = next_;
            next_ += 2;
            const std::uint32_t second = hexadecimal();
            if (second >> 10 == 0x37) code = 0x10000 + ((code & 0x3FFu) << 10 | (second & 0x3FFu));
            else next_ = after;
        }
        append(found, code);
    }

    static void append(std::string& found, std::uint32_t code) {  // as UTF-8
        const auto put = [&found](std::uint32_t byte) { found += static_cast<char>(static_cast<std::uint8_t>(byte)); };
        if (code < 0x80) return put(code);
        const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
        put((0xF00u >> more & 0xF0u) | code >> 6 * more);
        for (int index = more - 1; index >= 0; --index) put(0x80u | (code >> 6 * index & 0x3Fu));
    }

    std::string string() {
        std::string found;
        expect('"');
        while (current() != '"') {
            if (static_cast<std::uint8_t>(current()) < 0x20) fail("a text without an end, or a control character");
            if (current() == '\\') {
                ++next_;
                escape(found);
            } else {
                found += text_[next_++];
            }
        }
        ++next_;
        return found;
    }

    const std::string& text_;
    std::size_t next_ = 0, values_ = 0;
};

}  // namespace uigc::detail
