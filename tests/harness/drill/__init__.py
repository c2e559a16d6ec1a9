"""Drills: a failure injected into the whole system under load, and what it cost, in figures.

    figures     the columns that every drill reports, and how they are printed
    observer    looks at everything twenty times a second from a thread of its own
    run         one drill on one lab: the marks "now it breaks" and "now it is whole again", the verdict
    catalogue   the drills, by the ids of the failure catalogue; more of them in exchange_drills, store_drills,
                journal_drills, archive_drills
    replay      books rebuilt from what production holds
"""
