// SPDX-License-Identifier: Apache-2.0
// k nearest neighbours: one thread classifies one image.
//
// Pixels are whole numbers from 0 to 16, so every squared distance is exact in fp32, in whatever order it is summed:
// the answer is the same bit for bit on a GPU, on cpu-sim and in NumPy. Ties go to the earlier training image, and
// between classes to the smaller digit.

constexpr int PIXELS = 64;
constexpr int CLASSES = 10;

template <int K>
__global__ void classify(const float* __restrict__ train, const int* __restrict__ labels, int train_count,
                         const float* __restrict__ test, int test_count, int* __restrict__ predictions) {
  const int image = blockIdx.x * blockDim.x + threadIdx.x;
  if (image >= test_count) return;

  float nearest[K];
  int label[K];
  for (int i = 0; i < K; i++) {
    nearest[i] = 3.0e38f;
    label[i] = 0;
  }
  for (int t = 0; t < train_count; t++) {
    float distance = 0.0f;
    for (int p = 0; p < PIXELS; p++) {
      const float d = train[t * PIXELS + p] - test[image * PIXELS + p];
      distance += d * d;
    }
    // Insert from behind, so that among equals the earlier one stays in front.
    int place = K;
    while (place > 0 && distance < nearest[place - 1]) place--;
    if (place < K) {
      for (int i = K - 1; i > place; i--) {
        nearest[i] = nearest[i - 1];
        label[i] = label[i - 1];
      }
      nearest[place] = distance;
      label[place] = labels[t];
    }
  }

  int votes[CLASSES] = {};
  for (int i = 0; i < K; i++) votes[label[i]]++;
  int best = 0;
  for (int c = 1; c < CLASSES; c++)
    if (votes[c] > votes[best]) best = c;
  predictions[image] = best;
}
