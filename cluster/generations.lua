-- generations: which numbers a mailbox has given. It stands before the scripts
-- that give or judge numbers.
--
-- A Redis that is promoted, or restarts with older data, may have lost numbers
-- that members have seen. So the numbers that one Redis gives while it is the
-- master are a generation: they follow one another, and the next generation
-- begins far beyond them. What a member has of a generation is a beginning of it,
-- as is what the mailbox has; so the shorter of the two is what they share.
--
-- mailbox:{member}:generations is a string, "<name> <first> <last> <first> <last>
-- … <first>": the name of the Redis that gives the present numbers, and where the
-- newest generations begin and end. The present one ends with the stream's newest
-- number. Without the string the mailbox is of an older version, or on a server
-- that does not tell its name: one generation.

-- Generations are at least this far apart; a number beyond the end of one, and
-- no further than tail, is a lost one of it.
local gap, tail = 65536, 32768

local function text(seq) return string.format('%.0f', seq) end

-- newest returns the highest seq the stream ever gave, 0 when there is no stream.
local function newest(mailbox)
  if redis.call('EXISTS', mailbox) == 0 then return 0 end
  local info = redis.call('XINFO', 'STREAM', mailbox)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      return tonumber(string.match(info[i + 1], '%-(%d+)$')) or 0
    end
  end
  return 0
end

-- reign returns a name for the time for which this Redis has been the master, new
-- with each promotion and each start; '-' when Redis does not tell.
local function reign()
  local info = redis.pcall('INFO', 'replication')
  if type(info) ~= 'string' then return '-' end
  local _, at = string.find(info, 'master_replid:', 1, true)
  return at and string.sub(info, at + 1, at + 12) or '-'
end

-- first_of returns the first number of a generation that is to begin after last:
-- the clock in µs where that is far enough. Two that begin after the same number,
-- of which one is lost, must not meet: with spread set, chance keeps them apart.
local function first_of(last, spread)
  local time = redis.call('TIME')
  local first = math.max(time[1] * 1000000 + time[2], last + gap)
  if spread then first = first + time[2] * 7919 % 65536 * gap end
  return first
end

-- begin writes down that a generation has begun after last, where list is what
-- was written down before. It comes after the first entry: without it the next
-- append begins another one, and nothing is lost.
local function begin(generations, list, name, last, first)
  local numbers = {}
  if last > 0 then
    for number in string.gmatch(list or ' 0', ' (%d+)') do numbers[#numbers + 1] = number end
    numbers[#numbers + 1] = text(last)
  end
  numbers[#numbers + 1] = text(first)
  local kept = math.max(1, #numbers - 14) -- the newest eight
  redis.call('SET', generations, name .. ' ' .. table.concat(numbers, ' ', kept))
end

-- judge says how a number that a member has seen relates to a mailbox whose
-- newest is last: 'given' is one that it gave; 'lost' one that it gave and has
-- lost, all before which the member has and all after which comes under higher
-- numbers; 'foreign' any other, which tells nothing about what the member has.
local function judge(mailbox, generations, seq, last)
  if seq == 0 or last == 0 then return 'given' end
  local list = redis.call('GET', generations)
  if not list then return seq <= last and 'given' or 'foreign' end
  local numbers = {}
  for number in string.gmatch(list, ' (%d+)') do numbers[#numbers + 1] = tonumber(number) end
  numbers[#numbers + 1] = last
  for i = #numbers - 1, 1, -2 do
    if seq >= numbers[i] then
      if seq <= numbers[i + 1] then return 'given' end
      if seq > numbers[i + 1] + tail then break end
      if i + 1 < #numbers then return 'lost' end
      local name = reign()
      if name ~= '-' and string.sub(list, 1, #name) ~= name then return 'lost' end
      break -- nothing was lost that this Redis knows of: it has been made to go back
    end
  end
  if seq <= last and #redis.call('XRANGE', mailbox, '-', '0-' .. text(seq), 'COUNT', 1) == 0 then return 'lost' end
  return 'foreign'
end
