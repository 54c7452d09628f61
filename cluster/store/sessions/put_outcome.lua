-- Notes that somebody outside is to be told of a session's outcome.
-- KEYS[1] = conclave:webhooks   zset, session ids: by ms of the next try, or by minus the ms of the one that succeeded
-- ARGV[1] = session id
-- ARGV[2] = how many may wait
-- ARGV[3] = 1 to tell it at once, also if it was told or waits for its next try
-- When Redis is full: goes on
-- returns  1, also if it was noted or done before; 0 if too many wait
local known = redis.call('ZSCORE', KEYS[1], ARGV[1])
if known and ARGV[3] ~= '1' then
  return 1
end
local waits = known and tonumber(known) > 0
if not waits and redis.call('ZCOUNT', KEYS[1], '(0', '+inf') >= tonumber(ARGV[2]) then
  return 0
end
redis.call('ZREM', KEYS[1], '') -- nothing, and not refused
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%.3f', time[1] * 1000 + time[2] / 1000), ARGV[1])
return 1
