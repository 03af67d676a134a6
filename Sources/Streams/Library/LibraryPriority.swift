extension Library {
    /// Priorities inside an organization: what each gets of the runs that the organization is served.
    static let priority = #"""
        -- Interactive comes before standard, standard before bulk. While a higher one takes all it can get,
        -- standard has 15 and bulk 5 of each 100 runs of the organization: each run that goes to anybody
        -- while the lower one waits is worth so many hundredths of a run, and who has a whole one is next.
        -- What nobody can use goes to whoever can.
        local GUARANTEE = {0, 15, 5}  -- hundredths, in the order of PRIORITIES
        local WHOLE = 100

        -- Before standard there are only as many interactive runs as the organization's bucket has; the
        -- others are served as standard ones are: the older run first, whichever of the two queues it is in.
        local INTERACTIVE_RATE, INTERACTIVE_BURST = 10, 100  -- runs a second, runs at once

        -- The queues among these that have set aside more than they may: they wait for a device.
        local function blockedQueues(k, queues)
            local blocked = {}
            if redis.call('EXISTS', k.held) == 0 then return blocked end
            local fields, most = {}, window(k)
            for i, queue in ipairs(queues) do fields[i] = 'h' .. queue end
            for i, value in ipairs(redis.call('HMGET', k.slots, unpack(fields))) do
                blocked[i] = tonumber(value or 0) > most
            end
            return blocked
        end

        -- The runs of up to `limit` entries that a claim would read next from this queue; an empty text for
        -- one that came back, which goes before all.
        local function peek(call, k, queue, limit)
            local runs, key = {}, call.tag .. 'queue:' .. queue
            local back = math.min(limit, tonumber(redis.call('HGET', k.returned, queue) or 0))
            for i = 1, back do runs[i] = '' end
            if back == limit then return runs end
            local group = redis.call('XINFO', 'GROUPS', key)[1]
            for i = 1, #group, 2 do
                if group[i] == 'last-delivered-id' then
                    local rest = redis.call('XRANGE', key, '(' .. group[i + 1], '+', 'COUNT', limit - back)
                    for _, entry in ipairs(rest) do runs[#runs + 1] = parseWork(entry[2][2]) end
                end
            end
            return runs
        end

        -- How many of `wanted` runs are of the first queue if the older run goes first, behind those of each
        -- queue that are `taken` already. Ids of runs sort by their time.
        local function older(call, k, organization, wanted, depths, taken)
            if depths[1] == 0 then return 0 end
            if depths[2] == 0 then return wanted end
            local first = peek(call, k, organization .. ':0', taken[1] + math.min(wanted, depths[1]))
            local second = peek(call, k, organization .. ':1', taken[2] + math.min(wanted, depths[2]))
            local firsts, seconds, i, j = #first - taken[1], #second - taken[2], 0, 0
            while i + j < wanted do
                if j >= seconds or i < firsts and first[taken[1] + i + 1] <= second[taken[2] + j + 1] then
                    i = i + 1
                else
                    j = j + 1
                end
                if i >= firsts and j >= seconds then break end
            end
            -- What is left where a queue has less than its depth says.
            return math.max(i, wanted - depths[2])
        end

        -- Divides one candidate's share over its priorities. `credits` are hundredths of standard and bulk,
        -- `tokens` how many interactive runs go before standard ones.
        local function divideOne(call, k, candidate, credits, tokens)
            local left, shares, mixed = {unpack(candidate.depths)}, {0, 0, 0}, 0
            for _ = 1, candidate.share do
                local first = left[1] > 0 and tokens > 0
                local second = left[2] + (tokens > 0 and 0 or left[1]) - mixed
                if first and left[2] > 0 then credits[2] = credits[2] + GUARANTEE[2] end
                if left[3] > 0 and (first or second > 0) then credits[3] = credits[3] + GUARANTEE[3] end
                if left[3] > 0 and (credits[3] >= WHOLE or not first and second <= 0) then
                    credits[3] = math.max(0, credits[3] - WHOLE)
                    shares[3], left[3] = shares[3] + 1, left[3] - 1
                elseif first and left[2] > 0 and credits[2] >= WHOLE then
                    credits[2] = credits[2] - WHOLE
                    shares[2], left[2] = shares[2] + 1, left[2] - 1
                elseif first then
                    shares[1], left[1], tokens = shares[1] + 1, left[1] - 1, tokens - 1
                else
                    mixed = mixed + 1
                end
            end
            if mixed > 0 then
                local interactive = older(call, k, candidate.organization, mixed, left, shares)
                shares[1] = shares[1] + interactive
                shares[2] = shares[2] + mixed - interactive
                left[1], left[2] = left[1] - interactive, left[2] - mixed + interactive
            end
            for i = 2, #PRIORITIES do
                if left[i] == 0 then credits[i] = 0 end
            end
            return shares, tokens
        end

        -- How many interactive runs of each of these candidates go before its standard ones; of `buckets`
        -- the score is when the bucket will be full again.
        local function readBuckets(k, candidates)
            local organizations, fields = {}, {}
            if #candidates == 0 then return end
            for i, candidate in ipairs(candidates) do
                organizations[i] = candidate.organization
                fields[2 * i - 1] = candidate.organization .. ':rate'
                fields[2 * i] = candidate.organization .. ':burst'
            end
            local limits = redis.call('HMGET', k.caps, unpack(fields))
            local full, time = redis.call('ZMSCORE', k.buckets, unpack(organizations)), now()
            for i, candidate in ipairs(candidates) do
                local interval = 1000 / tonumber(limits[2 * i - 1] or INTERACTIVE_RATE)
                local start = math.max(time, tonumber(full[i] or 0))
                local tokens = tonumber(limits[2 * i] or INTERACTIVE_BURST) - (start - time) / interval
                tokens = math.max(0, math.floor(tokens))
                candidate.bucket = {start = start, interval = interval, tokens = tokens}
            end
        end

        -- Divides the shares of all candidates. Nothing is read or written for one that has no choice: all
        -- its entries are of one priority, or it gets all that it has.
        local function divide(call, k, candidates)
            local divided, bucketed, fields = {}, {}, {}
            for _, candidate in ipairs(candidates) do
                local depths, only = candidate.depths
                for i, depth in ipairs(depths) do
                    if depth == candidate.depth then only = i end
                end
                candidate.shares = {0, 0, 0}
                if only then
                    candidate.shares[only] = candidate.share
                elseif candidate.share == candidate.depth then
                    candidate.shares = {unpack(depths)}
                elseif candidate.share > 0 then
                    divided[#divided + 1] = candidate
                    fields[#fields + 1] = candidate.organization .. ':1'
                    fields[#fields + 1] = candidate.organization .. ':2'
                    if depths[1] > 0 and depths[2] > 0 then bucketed[#bucketed + 1] = candidate end
                end
            end
            if #divided == 0 then return end
            readBuckets(k, bucketed)
            local set, gone, buckets = {}, {}, {}
            for i, value in ipairs(redis.call('HMGET', k.credits, unpack(fields))) do
                fields[i] = {name = fields[i], credit = tonumber(value or 0)}
            end
            for i, candidate in ipairs(divided) do
                local credits = {0, fields[2 * i - 1].credit, fields[2 * i].credit}
                local bucket = candidate.bucket
                local tokens = bucket and bucket.tokens or math.huge
                local shares, left = divideOne(call, k, candidate, credits, tokens)
                candidate.shares = shares
                for j = 2, 3 do
                    local field = fields[2 * (i - 1) + j - 1]
                    if credits[j] == 0 and field.credit ~= 0 then
                        gone[#gone + 1] = field.name
                    elseif credits[j] ~= field.credit then
                        set[#set + 1], set[#set + 2] = field.name, credits[j]
                    end
                end
                if bucket and left < bucket.tokens then
                    local full = bucket.start + (bucket.tokens - left) * bucket.interval
                    buckets[#buckets + 1], buckets[#buckets + 2] = decimal(full), candidate.organization
                end
            end
            if #set > 0 then redis.call('HSET', k.credits, unpack(set)) end
            if #gone > 0 then redis.call('HDEL', k.credits, unpack(gone)) end
            if #buckets > 0 then redis.call('ZADD', k.buckets, unpack(buckets)) end
        end
        """#
}
