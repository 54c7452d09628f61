-- usage: the account of a mailbox, for append.lua and ack.lua; it stands before
-- each of them.
--
-- mailbox:{member}:usage is a hash:
--   entries, bytes        what the mailbox holds and is charged for
--   last                  the newest seq appended under this account
--   by:<payer>            "<entries> <bytes>" of them that this payer has caused
--   in:<group> <payer>    likewise, of one group
--   of:<group>            seq of the group's newest entry; "end <seq>" if that ended it;
--                         further seqs behind it of entries that no link leads to
--   unseen                1 while the member has never joined
-- The fields payer, group and link of an entry are what it was charged by. link
-- is what of:<group> was before, or "end" in the entry that ends the group, with
-- the bytes of memory that the entries it removed still take.
--
-- There is no account of the few entries that a socket which keeps up has
-- waiting. One holds while entries is the stream's length and each new seq
-- follows last; otherwise somebody has appended or trimmed without counting, a
-- server of an older version or one that found few entries, and the entries are
-- counted again, as they are where there is no account.

-- account_of returns the account of a mailbox. All of it is inside, so that a
-- script that does not need it does not pay for it.
local function account_of(mailbox, usage)
  local overhead = 256 -- bytes charged for an entry besides its payload
  local node_bytes = 4096 -- stream-node-max-bytes: smaller entries share a node, which is freed with its last one

  -- Fields of the hash as they are to be (false: not there), and which of them
  -- to write. With complete set, fields that are not here are not there.
  local fields, changed, complete = {}, {}, false
  -- With fresh set, the hash is to be made anew.
  local a = {entries = 0, bytes = 0, last = nil, fresh = false}

  local function text(n) return string.format('%.0f', n) end
  local function ends(link) return string.sub(link, 1, 3) == 'end' end

  local function get(name)
    local value = fields[name]
    if value == nil and not complete then
      value = redis.call('HGET', usage, name)
      fields[name] = value
    end
    return value
  end

  local function put(name, value)
    fields[name] = value
    changed[name] = true
  end

  local function pair(name)
    local value = get(name)
    if not value then return 0, 0 end
    local n, bytes = string.match(value, '^(%d+) (%d+)$')
    return tonumber(n) or 0, tonumber(bytes) or 0
  end

  local function add(name, n, bytes)
    local was, held = pair(name)
    put(name, was + n > 0 and text(was + n) .. ' ' .. text(held + bytes))
  end

  -- count adds n entries (1 or -1) that cost so much.
  local function count(payer, group, n, cost)
    a.entries, a.bytes = a.entries + n, a.bytes + n * cost
    if payer == '' then return end
    add('by:' .. payer, n, n * cost)
    if group ~= '' then add('in:' .. group .. ' ' .. payer, n, n * cost) end
  end

  -- parse returns seq, payer, group and link of an entry, and what it costs.
  -- Entries of older versions have a payload only.
  local function parse(entry)
    local values = entry[2]
    local link = values[8] or ''
    local waste = string.match(link, '^end (%d+)$')
    return string.sub(entry[1], 3), values[4] or '', values[6] or '', link, #values[2] + overhead + (tonumber(waste) or 0)
  end

  -- each calls f with every entry up to id, oldest first, a few in memory at a time.
  local function each(to, f)
    local from = '-'
    while true do
      local some = redis.call('XRANGE', mailbox, from, to, 'COUNT', 16)
      for _, entry in ipairs(some) do f(entry) end
      if #some < 16 then return end
      from = '(' .. some[16][1]
    end
  end

  -- recount makes the account from the entries.
  function a.recount()
    fields, changed, complete, a.fresh = {}, {}, true, true
    a.entries, a.bytes, a.last = 0, 0, nil
    each('+', function(entry)
      local seq, payer, group, link, cost = parse(entry)
      a.last = tonumber(seq)
      count(payer, ends(link) and '' or group, 1, cost)
      if ends(link) then
        put('of:' .. group, 'end ' .. seq)
      elseif group ~= '' then
        -- An entry that was not counted does not know the one before.
        local before = link == '' and fields['of:' .. group]
        put('of:' .. group, before and not ends(before) and seq .. ' ' .. before or seq)
      end
    end)
  end

  -- load reads what is needed for messages of those payers and groups, given one
  -- after the other, into a mailbox of len entries.
  function a.load(len, list)
    if len == 0 then
      complete, a.fresh = true, true -- a hash that is there has outlived the entries
      return
    end
    local names, known = {'entries', 'bytes', 'last'}, {}
    local function want(name)
      if not known[name] then
        known[name] = true
        names[#names + 1] = name
      end
    end
    for i = 1, #list, 2 do
      local payer, group = list[i], list[i + 1]
      if payer ~= '' then
        want('by:' .. payer)
        if group ~= '' then want('in:' .. group .. ' ' .. payer) end
      end
      if group ~= '' then want('of:' .. group) end
    end
    local values = redis.call('HMGET', usage, unpack(names))
    a.entries, a.bytes, a.last = tonumber(values[1]), tonumber(values[2]), tonumber(values[3])
    if a.entries ~= len then
      a.recount()
      return
    end
    for i = 4, #names do fields[names[i]] = values[i] end
  end

  -- cost returns what an entry is charged, given the bytes of a payload and what
  -- remove has returned for it.
  function a.cost(bytes, waste) return bytes + overhead + waste end

  -- held returns how many entries and bytes a payer has here, in a group if one
  -- is given.
  function a.held(payer, group)
    if group then return pair('in:' .. group .. ' ' .. payer) end
    return pair('by:' .. payer)
  end

  -- newest returns what the next entry of a group is linked to, and whether the
  -- group has ended.
  function a.newest(group)
    local link = get('of:' .. group) or ''
    if ends(link) then return '', true end
    return link, false
  end

  -- appended counts the new entry seq.
  function a.appended(seq, payer, group, last_word, cost)
    if a.last and tonumber(seq) ~= a.last + 1 then
      a.recount()
      return
    end
    a.last = tonumber(seq)
    count(payer, last_word and '' or group, 1, cost)
    if group ~= '' then put('of:' .. group, last_word and 'end ' .. seq or seq) end
  end

  -- remove takes a group's entries out, newest first, and returns how many bytes
  -- of memory they still take: Redis frees the small ones with their neighbours.
  function a.remove(group)
    local newest, ended = a.newest(group)
    if newest == '' or ended then return 0 end
    local links, waste = {newest}, 0
    while #links > 0 do
      for seq in string.gmatch(table.remove(links), '%d+') do
        local entry = redis.call('XRANGE', mailbox, '0-' .. seq, '0-' .. seq)[1]
        if entry then -- otherwise it is acknowledged, and so all before it
          local _, payer, _, link, cost = parse(entry)
          redis.call('XDEL', mailbox, entry[1])
          count(payer, group, -1, cost)
          if cost < node_bytes then waste = waste + cost end
          links[#links + 1] = link
        end
      end
    end
    put('of:' .. group, false)
    return waste
  end

  -- trim counts out the entries up to seq, which the caller is about to trim, and
  -- reports whether the account still holds, and at least few entries are left.
  function a.trim(seq, few)
    local values = redis.call('HMGET', usage, 'entries', 'bytes', 'last')
    a.entries, a.bytes, a.last = tonumber(values[1]), tonumber(values[2]), tonumber(values[3])
    if not a.last or a.last - seq < math.max(few, 1) or redis.call('XLEN', mailbox) ~= a.entries then return false end
    each('0-' .. seq, function(entry)
      local number, payer, group, link, cost = parse(entry)
      count(payer, ends(link) and '' or group, -1, cost)
      local newest = group ~= '' and get('of:' .. group)
      if newest and string.match(newest, '%d+') == number then put('of:' .. group, false) end
    end)
    return a.entries >= few
  end

  -- save writes what has changed.
  function a.save(unseen)
    put('entries', text(a.entries))
    put('bytes', text(a.bytes))
    put('last', a.last and text(a.last))
    if unseen then put('unseen', '1') end
    local set, gone = {}, {}
    for name in pairs(changed) do
      local value = fields[name]
      if value then
        set[#set + 1] = name
        set[#set + 1] = value
      else
        gone[#gone + 1] = name
      end
    end
    if a.fresh then redis.call('DEL', usage) end
    for i = 1, #set, 1000 do redis.call('HSET', usage, unpack(set, i, math.min(i + 999, #set))) end
    for i = 1, #gone, 1000 do redis.call('HDEL', usage, unpack(gone, i, math.min(i + 999, #gone))) end
  end

  return a
end

