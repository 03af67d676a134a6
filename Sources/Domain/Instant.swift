/// A point in time, UTC, in microseconds since 1970-01-01 without leap seconds.
package struct Instant: Hashable, Sendable, Comparable {
    /// Microseconds since 1970-01-01T00:00:00Z; negative before.
    package let microseconds: Int64

    /// The instant so many microseconds after 1970.
    package init(microseconds: Int64) { self.microseconds = microseconds }

    /// The instant so many seconds after 1970.
    package init(seconds: Int64) { self.microseconds = seconds * 1_000_000 }

    /// Whole seconds since 1970, rounded down.
    package var seconds: Int64 { microseconds.quotientAndRemainderFloored(by: 1_000_000).0 }

    /// The earlier of two instants is the smaller.
    package static func < (left: Instant, right: Instant) -> Bool { left.microseconds < right.microseconds }

    /// The instant after a duration, to the microsecond.
    package static func + (instant: Instant, duration: Duration) -> Instant {
        let (seconds, attoseconds) = duration.components
        return Instant(
            microseconds: instant.microseconds + seconds * 1_000_000 + attoseconds / 1_000_000_000_000)
    }

    /// The duration from the right instant to the left.
    package static func - (left: Instant, right: Instant) -> Duration {
        .microseconds(left.microseconds - right.microseconds)
    }
}

extension Instant: CustomStringConvertible {
    /// RFC 3339 in UTC with milliseconds: `2026-03-01T12:00:00.000Z`.
    package var description: String {
        var text: [UInt8] = []
        appendText(to: &text)
        return String(decoding: text, as: UTF8.self)
    }

    /// Appends the text of RFC 3339 in ASCII.
    package func appendText(to bytes: inout [UInt8]) {
        let (seconds, fraction) = microseconds.quotientAndRemainderFloored(by: 1_000_000)
        let (days, rest) = seconds.quotientAndRemainderFloored(by: 86_400)
        let date = CivilDate(daysSince1970: days)
        let (second, milliseconds) = (Int(rest), Int(fraction / 1_000))
        // Years of other than four digits occur in no time that the product makes; they are only kept apart.
        let year = (0...9_999).contains(date.year) ? nil : padded(date.year, 4)
        bytes.append(addingCapacity: 24 + (year?.utf8.count ?? 0)) { output in
            if let year {
                for byte in year.utf8 { output.append(byte) }
            } else {
                append(date.year, digits: 4, to: &output)
            }
            output.append(UInt8(ascii: "-"))
            append(date.month, digits: 2, to: &output)
            output.append(UInt8(ascii: "-"))
            append(date.day, digits: 2, to: &output)
            output.append(UInt8(ascii: "T"))
            append(second / 3_600, digits: 2, to: &output)
            output.append(UInt8(ascii: ":"))
            append(second / 60 % 60, digits: 2, to: &output)
            output.append(UInt8(ascii: ":"))
            append(second % 60, digits: 2, to: &output)
            output.append(UInt8(ascii: "."))
            append(milliseconds, digits: 3, to: &output)
            output.append(UInt8(ascii: "Z"))
        }
    }

    /// The instant of RFC 3339 text (`Z` or a numeric offset, up to nine digits of a second); `nil` for
    /// anything else.
    package init?(_ text: String) { self.init(text: text.utf8.span) }

    /// The instant of RFC 3339 text in UTF-8; `nil` for anything else.
    package init?(text: Span<UInt8>) {
        var reader = DigitReader()
        guard let year = reader.digits(4, of: text), reader.take("-", of: text),
            let month = reader.digits(2, of: text), reader.take("-", of: text),
            let day = reader.digits(2, of: text),
            reader.take("T", of: text) || reader.take("t", of: text) || reader.take(" ", of: text),
            let hour = reader.digits(2, of: text), reader.take(":", of: text),
            let minute = reader.digits(2, of: text), reader.take(":", of: text),
            let second = reader.digits(2, of: text), (1...12).contains(month), day >= 1,
            day <= CivilDate.days(in: month, of: year), hour < 24, minute < 60, second < 60
        else { return nil }
        guard let fraction = reader.fractionMicroseconds(of: text),
            let offset = reader.offsetSeconds(of: text), reader.position == text.count
        else { return nil }
        let days = CivilDate(year: year, month: month, day: day).daysSince1970
        let seconds = days * 86_400 + Int64(hour * 3_600 + minute * 60 + second) - offset
        self.init(microseconds: seconds * 1_000_000 + fraction)
    }
}

/// A day of the proleptic Gregorian calendar.
struct CivilDate {
    var year: Int
    var month: Int
    var day: Int

    init(year: Int, month: Int, day: Int) {
        (self.year, self.month, self.day) = (year, month, day)
    }

    /// Source: H. Hinnant, "chrono-compatible low-level date algorithms", civil_from_days.
    init(daysSince1970: Int64) {
        let shifted = daysSince1970 + 719_468
        let (era, dayOfEra) = shifted.quotientAndRemainderFloored(by: 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        day = Int(dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
        month = Int(shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9)
        year = Int(yearOfEra + era * 400) + (month <= 2 ? 1 : 0)
    }

    /// Source: as above, days_from_civil.
    var daysSince1970: Int64 {
        let shiftedYear = Int64(month <= 2 ? year - 1 : year)
        let (era, yearOfEra) = shiftedYear.quotientAndRemainderFloored(by: 400)
        let dayOfYear = Int64((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1)
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    static func days(in month: Int, of year: Int) -> Int {
        switch month {
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }
}

extension Int64 {
    /// Quotient rounded down and remainder that is never negative.
    fileprivate func quotientAndRemainderFloored(by divisor: Int64) -> (Int64, Int64) {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
    }
}

/// A non-negative number with leading zeros.
private func padded(_ number: Int, _ width: Int) -> String {
    let text = String(number)
    return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
}

/// Appends the last digits of a number that is not negative.
@inline(__always)
private func append(_ number: Int, digits: Int, to output: inout OutputSpan<UInt8>) {
    var unit = 1
    for _ in 1..<digits { unit *= 10 }
    while unit > 0 {
        output.append(UInt8(ascii: "0") + UInt8(number / unit % 10))
        unit /= 10
    }
}

/// Reads fixed-width numbers from ASCII.
private struct DigitReader {
    private(set) var position = 0

    mutating func take(_ character: Unicode.Scalar, of text: Span<UInt8>) -> Bool {
        guard position < text.count, text[position] == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    mutating func digits(_ count: Int, of text: Span<UInt8>) -> Int? {
        guard position + count <= text.count else { return nil }
        var number = 0
        for index in position..<position + count {
            let digit = text[index] &- UInt8(ascii: "0")
            guard digit < 10 else { return nil }
            number = number * 10 + Int(digit)
        }
        position += count
        return number
    }

    mutating func fractionMicroseconds(of text: Span<UInt8>) -> Int64? {
        guard take(".", of: text) else { return 0 }
        var microseconds: Int64 = 0
        var count = 0
        while let digit = digits(1, of: text) {
            count += 1
            if count <= 6 { microseconds = microseconds * 10 + Int64(digit) }
        }
        guard (1...9).contains(count) else { return nil }
        for _ in stride(from: count, to: 6, by: 1) { microseconds *= 10 }
        return microseconds
    }

    mutating func offsetSeconds(of text: Span<UInt8>) -> Int64? {
        if take("Z", of: text) || take("z", of: text) { return 0 }
        let sign: Int64
        if take("+", of: text) { sign = 1 } else if take("-", of: text) { sign = -1 } else { return nil }
        guard let hours = digits(2, of: text), take(":", of: text), let minutes = digits(2, of: text),
            hours < 24, minutes < 60
        else { return nil }
        return sign * Int64(hours * 3_600 + minutes * 60)
    }
}
