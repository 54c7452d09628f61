-- Changes when a session is looked at, unless that was changed meanwhile.
-- KEYS[1] = conclave:sessions:due   zset, scores in ms, microseconds behind the point
-- ARGV[1] = session id
-- ARGV[2] = the score that the caller knows
-- ARGV[3] = the new one; empty to take the session off the list
-- When Redis is full: goes on
-- returns  1; 0 if the session has another score, or none
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not score or tonumber(score) ~= tonumber(ARGV[2]) then
  return 0
end
if ARGV[3] == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZREM', KEYS[1], '') -- nothing, and not refused
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
end
return 1
