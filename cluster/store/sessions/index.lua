-- Stands before the scripts that list a session with the users involved in it.
-- List is conclave:index:{user}:sessions, a zset; score is ms of its creation;
-- life is ms that the list lives on from its newest session; oldest is the score
-- before which no listed session can exist any more.
local function index(list, id, score, life, oldest)
  redis.call('ZADD', list, score, id)
  -- The life is written, and the list cut, when a hundredth of it has passed: not
  -- with every session.
  if redis.call('PTTL', list) < life * 0.99 then
    redis.call('PEXPIRE', list, string.format('%.0f', life * 1.01))
    redis.call('ZREMRANGEBYSCORE', list, '-inf', '(' .. oldest)
  end
end
