package import Domain

/// One entry of a gateway's inbox: all attempts that one dispatch or cancel has for it, or the devices whose
/// sessions are to end.
///
/// Fixed binary layout, written and read only here: a kind byte (1 dispatch, 2 cancel, 3 end), then 84 bytes
/// an item: organization, job, run, device, token (16 bytes each) and the attempt (4 bytes, most significant
/// first); of the third kind 16 bytes a device.
package enum InboxLetter: Sendable, Equatable {
    case dispatch([Item])
    case cancel([Item])
    case end([DeviceID])

    /// One attempt of one run.
    package struct Item: Sendable, Hashable {
        /// Whose it is.
        package let organization: OrganizationID
        package let job: JobID
        package let run: RunID
        package let device: DeviceID
        /// Which attempt.
        package let attempt: Int
        package let token: AttemptToken

        /// An attempt.
        package init(
            organization: OrganizationID, job: JobID, run: RunID, device: DeviceID, attempt: Int,
            token: AttemptToken
        ) {
            self.organization = organization
            self.job = job
            self.run = run
            self.device = device
            self.attempt = attempt
            self.token = token
        }
    }

    /// The letter as bytes.
    package var encoded: [UInt8] {
        if case .end(let devices) = self { return [3] + devices.flatMap(\.bytes) }
        let (kind, items): (UInt8, [Item]) =
            switch self {
            case .dispatch(let items): (1, items)
            case .cancel(let items): (2, items)
            case .end: (3, [])
            }
        var bytes = [kind]
        bytes.reserveCapacity(1 + items.count * Self.itemBytes)
        for item in items {
            for id in [item.organization.bytes, item.job.bytes, item.run.bytes, item.device.bytes] {
                bytes += id
            }
            bytes += item.token.bytes
            for shift in [24, 16, 8, 0] { bytes.append(UInt8(truncatingIfNeeded: item.attempt >> shift)) }
        }
        return bytes
    }

    /// The letter of bytes; `nil` for anything else.
    package init?(_ bytes: [UInt8]) {
        guard let kind = bytes.first else { return nil }
        if kind == 3, (bytes.count - 1) % 16 == 0 {
            self = .end(
                stride(from: 1, to: bytes.count, by: 16).compactMap { start in
                    UniqueID(bytes: bytes[start..<start + 16]).map { DeviceID($0) }
                })
            return
        }
        guard (bytes.count - 1) % Self.itemBytes == 0 else { return nil }
        var items: [Item] = []
        for start in stride(from: 1, to: bytes.count, by: Self.itemBytes) {
            let ids = (0..<5).compactMap { UniqueID(bytes: bytes[start + $0 * 16..<start + ($0 + 1) * 16]) }
            guard ids.count == 5 else { return nil }
            let attempt = bytes[start + 80..<start + 84].reduce(0) { $0 << 8 | Int($1) }
            items.append(
                Item(
                    organization: ID(ids[0]), job: ID(ids[1]), run: ID(ids[2]), device: ID(ids[3]),
                    attempt: attempt,
                    token: ID(ids[4])))
        }
        switch kind {
        case 1: self = .dispatch(items)
        case 2: self = .cancel(items)
        default: return nil
        }
    }

    private static let itemBytes = 84
}
