-- Takes what is due of a list and puts each off, so that no other node takes it
-- meanwhile.
-- KEYS[1] = conclave:sessions:due or conclave:webhooks   zset, session ids: by ms, microseconds
--           behind the point, when due; by minus that, if it is remembered that it was done with
-- ARGV[1] = most to take
-- ARGV[2] = ms to put them off
-- ARGV[3] = ms for which it is remembered that one was done with; '' where it is not
-- When Redis is full: goes on
-- returns  {score that they have now, session id, ...}; {} if none is due
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
if ARGV[3] ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('%.3f', tonumber(ARGV[3]) - now), '0')
end
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '(0', string.format('%.3f', now), 'LIMIT', 0, ARGV[1])
if #ids == 0 then
  return {}
end
local hold = string.format('%.3f', now + tonumber(ARGV[2])) -- a number would lose digits on its way
local reply = {hold}
redis.call('ZREM', KEYS[1], '') -- nothing, and not refused
for i, id in ipairs(ids) do
  redis.call('ZADD', KEYS[1], hold, id)
  reply[i + 1] = id
end
return reply
