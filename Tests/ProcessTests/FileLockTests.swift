import Glibc
import Testing

@testable import Process

@Suite struct FileLockTests {
    @Test("who only asks for the holder keeps no start from the lock")
    func probe() throws {
        let scratch = try ScratchDirectory()
        let path = "\(scratch.path)/lock"
        try FileLock(path).release()
        let prober = unsafe open(path, O_RDONLY)
        #expect(flock(prober, LOCK_SH | LOCK_NB) == 0)
        var pauses = 0
        let lock = try FileLock(path) {
            pauses += 1
            if pauses == 3 { close(prober) }
        }
        #expect(pauses == 3)
        #expect(try FileLock.holder(of: path) == getpid())
        lock.release()
    }
}
