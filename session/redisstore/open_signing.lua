-- Notes a signing as open on an active key.
-- KEYS[1] = conclave:key:{id}   hash
-- ARGV[1] = session id
-- ARGV[2] = the note: fingerprint, a space, the coordinator
-- ARGV[3] = 1 to return an open signing with an equal note instead
-- ARGV[4] = most open signings
-- ARGV[5] = ms after which a note is void: its node died before it created the session
-- When Redis is full: refused
-- returns  {seconds, microseconds, the session id}; 0 if the key is not active; 1 if too many are open
if redis.call('HGET', KEYS[1], 'status') ~= 'active' then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local field = 'open:' .. ARGV[1]
local note = ARGV[2] .. ' '
local record = redis.call('HGETALL', KEYS[1])
local open, void = 0, {}
for i = 1, #record, 2 do
  if record[i] == field then
    return {time[1], time[2], ARGV[1]}
  end
  if string.sub(record[i], 1, 5) == 'open:' then
    local since = tonumber(string.match(record[i + 1], '%d+$') or '')
    if not since or since + ARGV[5] < now then
      void[#void + 1] = record[i]
    else
      open = open + 1
      if ARGV[3] == '1' and string.sub(record[i + 1], 1, #note) == note then
        return {time[1], time[2], string.sub(record[i], 6)}
      end
    end
  end
end
if open >= tonumber(ARGV[4]) then
  return 1
end
redis.call('HSET', KEYS[1], field, note .. string.format('%.0f', now))
for _, name in ipairs(void) do
  redis.call('HDEL', KEYS[1], name)
end
return {time[1], time[2], ARGV[1]}
