import ArgumentParser
import Client
import Wire

/// How much of a list is printed.
struct ListOptions: ParsableArguments {
    @Option(help: "How many items at the most.")
    var limit = 50

    func validate() throws {
        guard limit > 0 else { throw ValidationError("--limit must be at least 1") }
    }

    /// Reads pages until enough items are there; what is left is told on stderr.
    func items<Item: WireObject>(_ read: (PageOptions) async throws -> Page<Item>) async throws -> [Item] {
        var items: [Item] = []
        var cursor: String?
        repeat {
            let wanted = min(limit - items.count, Limits.page.upperBound)
            let page = try await read(PageOptions(limit: wanted, cursor: cursor))
            items += page.items
            cursor = page.next
        } while cursor != nil && items.count < limit
        if cursor != nil { Terminal.complain("there are more; --limit shows more than \(limit)") }
        return items
    }
}

extension ConnectionOptions {
    /// Prints items as a table, or each as a line of JSON.
    func show<Item: WireObject>(_ items: [Item], _ table: Table, _ row: (inout Table, Item) -> Void) {
        switch output {
        case .json: for item in items { Terminal.print(json: item) }
        case .table:
            var table = table
            for item in items { row(&table, item) }
            table.print()
        }
    }
}
