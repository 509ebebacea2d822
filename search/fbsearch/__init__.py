"""Decide: a supernet, costs from a latency table, and the search for the best network under them.

FBNet (CVPR'19)
  3.1  search space: macro-architecture, candidate blocks                    core/fbspace
  3.2  L(a, w_a) = CE(a, w_a) · α · log(LAT(a))^β                            losses/paper.py
       LAT(a) = Σ_l LAT(b_l), each from the table                            costs/lut.py
  3.3  stochastic supernet, x_{l+1} = Σ_i m_{l,i} · b_{l,i}(x_l)             fbnet/supernet.py, strategies/mixture.py
       P_θ = softmax(θ_l), m_l = GumbelSoftmax(θ_l, τ)                       theta.py
       LAT(a) = Σ_l Σ_i m_{l,i} · LAT(b_{l,i})                               costs/__init__.py
       min_θ min_w E_{a ~ P_θ} L(a, w_a): w and θ in turn, τ annealed        fbnet/search.py, fbnet/objective.py
       networks sampled from P_θ                                             fbnet/derive.py
  4.1  splits, schedules, rates                                              fbnet/settings.py
FBNetV2 (CVPR'20)
  3.1  widths, Σ_i g_i b_i(x) = b(x) ∘ Σ_i g_i 1_i                           fbnetv2/masks.py, fbnetv2/blocks/
  3.2  input sizes: subsample, run, intersperse, sum                         fbnetv2/masks.py, fbnetv2/supernet.py
  3.3  cost under decided shapes (expected cost, not cost of the expected)   beyond/chain.py

What neither paper has is in beyond/, one remedy a file.
"""
