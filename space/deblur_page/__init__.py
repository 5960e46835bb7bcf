"""The page: a blurry photo goes in, the restored one comes back under a slider and at full size.

`line`      who waits for the model, and for how long
`choices`   models by what they are for
`runs`      a photo's way, from the file that came to the one that goes
`views`     what the browser shows of it
`one` `many` `compare` `api`    the tabs, and the endpoints for programs
`folders` `guard`   where files lie, and for how long; what is refused
"""
