"""What is known about running text in any language: one answer to each question.

=============  ============================================  ===========================
module         answers                                       asked by
=============  ============================================  ===========================
``scripts``    in which script is this written?              words, languages, cache
``words``      what is a word, and how many are there?       limits, compress, testing
``sentences``  where does a sentence end?                    limits, compress, cache, testing
``stems``      are two words forms of one?                   cache, compress, testing
``stopwords``  which words say nothing of the matter?        languages, compress, testing
``languages``  in which language is this written?            limits
``numbers``    which numbers, units and dates stand here?    cache, compress
=============  ============================================  ===========================

The cache's guards keep two answers of their own, because the weights of its prior were fitted with
them: which words carry no matter (``cache.guards.word_tables``), and in which language a question
is (``cache.guards.profile``), where one word in another script decides. Two rooms cannot ask here.
``counting`` lies below: it cuts texts where tokenizers do, not where words end.
``compress.lossless`` reads numbers as JSON writes them.
"""
