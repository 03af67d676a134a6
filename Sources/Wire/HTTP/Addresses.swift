/// An e-mail address: one part, an `@` and a domain, in printable ASCII without blanks, at most 254 bytes.
/// What is accepted is narrower than RFC 5321, so that it is safe in every header.
package struct EmailAddress: JSONReadable, Equatable {
    /// The address.
    package let text: String

    /// The address of text; `nil` for anything else.
    package init?(_ text: String) {
        let parts = text.split(separator: "@", omittingEmptySubsequences: false)
        guard parts.count == 2, (1...64).contains(parts[0].utf8.count), text.utf8.count <= 254,
            parts[0].utf8.allSatisfy(Self.isAtom), !parts[0].hasPrefix("."), !parts[0].hasSuffix("."),
            !parts[0].contains(".."), isDomain(parts[1])
        else { return nil }
        self.text = text
    }

    /// An address.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> EmailAddress {
        guard let address = EmailAddress(try String.read(value, .in(3...254))) else {
            throw FieldError(.invalid, "must be an e-mail address such as name@example.com")
        }
        return address
    }

    /// An address.
    package static func shape(_ limit: FieldLimit) -> Shape {
        .string(format: "email", allowed: [], limit: .in(3...254))
    }

    /// Stands for any address.
    package static var placeholder: EmailAddress { EmailAddress(unchecked: "a@b") }

    private init(unchecked text: String) { self.text = text }

    /// RFC 5322, 3.2.3: what may stand in an atom, and the dot between atoms.
    private static func isAtom(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "!#$%&'*+-/=?^_`{|}~.".utf8.contains(byte)
        }
    }
}

/// An address of a page or a picture: `https://` and a domain, in printable ASCII, at most 2,048 bytes.
package struct HTTPSAddress: JSONReadable, Equatable {
    /// The address.
    package let text: String

    /// An address.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> HTTPSAddress {
        let text = try String.read(value, .in(9...2_048))
        let host = text.dropFirst(8).prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        guard text.hasPrefix("https://"), isDomain(host.prefix { $0 != ":" }),
            text.utf8.allSatisfy({ (0x21..<0x7F).contains($0) && !"\"'<>\\^`{|}".utf8.contains($0) })
        else { throw FieldError(.invalid, "must be an address that begins with https://") }
        return HTTPSAddress(text: text)
    }

    /// An address.
    package static func shape(_ limit: FieldLimit) -> Shape {
        .string(format: "uri", allowed: [], limit: .in(9...2_048))
    }

    /// Stands for any address.
    package static var placeholder: HTTPSAddress { HTTPSAddress(text: "https://a.b") }
}

/// The name of a time zone as the IANA database has it: `UTC` or `Area/City`. Whether there is such a zone is
/// judged by the database.
package struct TimeZoneName: JSONReadable, Equatable {
    /// The name.
    package let text: String

    /// A name.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> TimeZoneName {
        let text = try String.read(value, .in(1...64))
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard text == "UTC" || (2...3).contains(parts.count),
            parts.allSatisfy({ part in
                part.utf8.first.map { $0 | 0x20 }.map(isLetter) == true
                    && part.utf8.allSatisfy { isLetter($0 | 0x20) || isDigit($0) || "_+-".utf8.contains($0) }
            })
        else { throw FieldError(.invalid, "must be the name of a time zone such as Europe/Vienna, or UTC") }
        return TimeZoneName(text: text)
    }

    /// A name.
    package static func shape(_ limit: FieldLimit) -> Shape {
        .string(format: nil, allowed: [], limit: .in(1...64))
    }

    /// Stands for any name.
    package static var placeholder: TimeZoneName { TimeZoneName(text: "UTC") }
}

/// Labels of letters, digits and inner hyphens with dots between them.
private func isDomain(_ text: some StringProtocol) -> Bool {
    let labels = text.split(separator: ".", omittingEmptySubsequences: false)
    return (1...253).contains(text.utf8.count)
        && labels.allSatisfy { label in
            (1...63).contains(label.utf8.count) && !label.hasPrefix("-") && !label.hasSuffix("-")
                && label.utf8.allSatisfy { isLetter($0 | 0x20) || isDigit($0) || $0 == UInt8(ascii: "-") }
        }
}

private func isLetter(_ byte: UInt8) -> Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) }

private func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
