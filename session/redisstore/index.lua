-- Lists a session with one of the users involved in it.
-- KEYS[1] = conclave:index:{user}:sessions   zset
-- ARGV[1] = session id
-- ARGV[2] = its score, ms of its creation
-- ARGV[3] = ms that the list lives on from its newest session
-- ARGV[4] = the score before which no listed session can exist any more
-- returns  1
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
-- The life is written, and the list cut, when a hundredth of it has passed: not
-- with every session.
if redis.call('PTTL', KEYS[1]) < ARGV[3] * 0.99 then
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ARGV[3] * 1.01))
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[4])
end
return 1
