-- Notes a signing as open on an active key, and reserves of its coordinator's
-- quota what it may take. (After quota.lua.)
-- KEYS[1] = conclave:key:{id}            hash
-- KEYS[2] = conclave:quota:{user}        hash; this and the following are left out where they are on other servers
-- KEYS[3] = conclave:quota:{user}:open   hash
-- KEYS[4] = conclave:quota:{user}:keys   hash
-- ARGV[1] = the note: fingerprint, a space, the coordinator
-- ARGV[2] = 1 to return an open signing with an equal note instead
-- ARGV[3] = most open signings
-- ARGV[4] = ms after which a note is void: its node died before it created the session
-- ARGV[5] = session id, and what reserve takes after it
-- When Redis is full: refused
-- returns  {seconds, microseconds, session id, 1 if a reservation was made, "long" or "brief" for that session}; 0 if the key is not active; 1 if too many are open; {"refused", …} as reserve does
if redis.call('HGET', KEYS[1], 'status') ~= 'active' then
  return 0
end
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
local id = ARGV[5]
local field = 'open:' .. id
local note = ARGV[1] .. ' '
local record = redis.call('HGETALL', KEYS[1])
local open, noted, void = 0, false, {}
for i = 1, #record, 2 do
  if record[i] == field then
    noted = true
    break
  end
  if string.sub(record[i], 1, 5) == 'open:' then
    local since = tonumber(string.match(record[i + 1], '%d+$') or '')
    if not since or since + ARGV[4] < at then
      void[#void + 1] = record[i]
    else
      open = open + 1
      if ARGV[2] == '1' and string.sub(record[i + 1], 1, #note) == note then
        return {time[1], time[2], string.sub(record[i], 6), 0, ''}
      end
    end
  end
end
if not noted and open >= tonumber(ARGV[3]) then
  return 1
end
local granted = {'', 0, ''}
if KEYS[2] then
  granted = reserve(KEYS[2], KEYS[3], KEYS[4], {unpack(ARGV, 5)})
  if granted[1] == 'refused' then
    return granted
  end
end
if not noted then
  redis.call('HSET', KEYS[1], field, note .. string.format('%.0f', at))
end
for _, name in ipairs(void) do
  redis.call('HDEL', KEYS[1], name)
end
return {time[1], time[2], id, granted[2], granted[3]}
