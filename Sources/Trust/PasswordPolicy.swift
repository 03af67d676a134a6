/// What a new password must be: length before variety, and nothing that is guessed first.
///
/// It judges the bytes that are hashed. It asks for no mixture of characters and no change after some time,
/// as NIST SP 800-63B advises.
package enum PasswordPolicy {
    /// The fewest bytes.
    package static let bytesMin = 12
    /// The most bytes.
    package static let bytesMax = 1_024
    /// The shortest part of an address that is looked for: two or three letters stand in any sentence.
    package static let localPartBytesMin = 4

    /// Why a password is refused.
    package enum Refusal: String, Sendable, CaseIterable {
        case tooShort, tooLong, oneCharacter, common, containsAddress

        /// The reason for people, to be said of any field.
        package var reason: String {
            switch self {
            case .tooShort: "must have at least \(bytesMin) bytes"
            case .tooLong: "must have at most \(bytesMax) bytes"
            case .oneCharacter: "must not be one character again and again"
            case .common: "must not be one of the most common passwords"
            case .containsAddress: "must not contain the name in the e-mail address"
            }
        }
    }

    /// The first reason why this cannot be the password of the account with that address; nil when it can.
    /// Upper and lower case of ASCII are the same to it; of the address, what stands before `+` or `@`
    /// counts.
    package static func refusal(of password: [UInt8], email: String) -> Refusal? {
        if password.count < bytesMin { return .tooShort }
        if password.count > bytesMax { return .tooLong }
        if Set(String(decoding: password, as: UTF8.self)).count == 1 { return .oneCharacter }
        let folded = lowercased(password)
        if common.contains(folded) { return .common }
        let name = lowercased(email.utf8.prefix { $0 != UInt8(ascii: "@") && $0 != UInt8(ascii: "+") })
        if name.count >= localPartBytesMin, contains(folded, name) { return .containsAddress }
        return nil
    }

    private static func lowercased(_ bytes: some Sequence<UInt8>) -> [UInt8] {
        bytes.map { UInt8(ascii: "A")...UInt8(ascii: "Z") ~= $0 ? $0 | 0x20 : $0 }
    }

    private static func contains(_ bytes: [UInt8], _ part: [UInt8]) -> Bool {
        guard bytes.count >= part.count else { return false }
        return (0...bytes.count - part.count).contains { bytes[$0...].starts(with: part) }
    }

    /// Of the passwords that are found most often in leaks, those that are long enough; lower case.
    static let common = Set(
        """
        000000000001 0123456789ab 012345678910 111122223333 112233445566 121212121212 123123123123
        1234512345123 123456123456 123456789000 123456789012 1234567890123 12345678901234 123456789012345
        1234567890123456 12345678901234567890 1234567890qwerty 123456789123 123456789abc 1234567891011
        123456789qwerty 1234qwer1234qwer 123qwe123qwe 123qweasdzxc 1q2w3e4r5t6y 1q2w3e4r5t6y7u8i
        1q2w3e4r5t6y7u 1qaz2wsx3edc 1qaz2wsx3edc4rfv 1qaz1qaz1qaz 987654321000 9876543210123 abc123abc123
        abcd1234abcd abcd12345678 abcdefgh1234 abcdefghijkl abcdefghijklm admin1234567 administrator
        administrator1 adminadminadmin adminpassword asdfasdfasdf asdfghjkl123 asdfghjklqwerty basketball123
        changeme1234 changemechangeme changemenow1 cloudrmmcloudrmm correcthorsebatterystaple defaultpassword
        football1234 iloveyou1234 iloveyouforever iloveyousomuch internet1234 jesuschrist1 letmein12345
        letmeinletmein liverpool1234 manchesterunited master123456 michael12345 mypassword12
        mypassword123 newpassword1 p@ssw0rd1234 p@ssword1234 pa55word1234 passw0rd1234 passw0rdpassw0rd
        password0000 password1111 password1212 password1234 password12345 password123456 password1234567
        password12345678 password123456789 password2020 password2021 password2022 password2023 password2024
        password2025 password2026 passwordpassword princess1234 q1w2e3r4t5y6 q1w2e3r4t5y6u7i8 qazwsxedcrfv
        qazwsxedc123 qwer1234qwer qwerasdfzxcv qwerty123456 qwerty1234567 qwerty12345678 qwertyqwerty
        qwertyuiop12 qwertyuiop123 qwertyuiop[] qwertyuiopasdf qwertyuiopasdfghjklzxcvbnm qwertzuiop123
        secretsecret spongebob123 starwars1234 summer202020 sunshine1234 superman1234 supersecret1
        testtesttest testpassword trustno1trustno1 welcome12345 welcome123456 welcomewelcome zaq12wsxcde3
        zxcvbnm12345 zxcvbnm123456
        """.utf8.split { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\n") }.map(Array.init))
}
